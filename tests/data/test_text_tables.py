"""CSV, TSV and JSON Lines of other programs: what is read as it is said to be, and what is refused in words."""

import re

import pytest

from golem_ray.config import DatasetConfig
from golem_ray.data import columns_of, open_source
from golem_ray.data.files import open_paths
from golem_ray.errors import DataError
from golem_ray.speech import MODALITY
from tests.conftest import write_clips

CLIPS = MODALITY.content
ROWS = "audio;label\na.wav;привет\nb.wav;пока\n"


def labels(path, **keys):
    return open_source(DatasetConfig(name=str(path), **keys), CLIPS, None).labels


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("cp1251", "cp1251"),
        ("cp1251", "windows-1251"),
        ("utf-16", "utf-16"),
        ("utf-16-be", "UTF_16_BE"),
        ("utf-8-sig", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
    ],
)
def test_a_csv_is_read_by_its_delimiter_and_encoding(tmp_path, written, said):
    (tmp_path / "m.csv").write_bytes(ROWS.encode(written))
    assert labels(tmp_path / "m.csv", delimiter=";", encoding=said) == ("пока", "привет")
    columns = columns_of(DatasetConfig(delimiter=";", encoding=said), CLIPS, labelled=False)
    paths = open_paths([str(tmp_path / "m.csv")], columns).examples["path"].to_pylist()
    assert paths == [f"{tmp_path}/a.wav", f"{tmp_path}/b.wav"]


def test_tabs_are_said_in_words_and_are_what_a_tsv_has(tmp_path):
    for name in ("m.csv", "m.tsv"):
        (tmp_path / name).write_text(ROWS.replace(";", "\t"))
    for delimiter in ("tab", r"\t", "\t"):
        assert labels(tmp_path / "m.csv", delimiter=delimiter) == ("пока", "привет")
    assert labels(tmp_path / "m.tsv") == labels(tmp_path / "m.tsv", delimiter=";") == ("пока", "привет")


def test_metadata_of_a_folder_may_be_a_tsv(tmp_path):
    folder = write_clips(tmp_path / "set", ["b", "a"])
    text = (folder / "metadata.csv").read_text()
    (folder / "metadata.csv").unlink()
    (folder / "metadata.tsv").write_text(text.replace(",", "\t"))
    assert labels(folder) == ("a", "b")


def test_json_lines_are_in_utf_8_whatever_is_said_of_csvs(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "label": "да"}\n{"audio": "b.wav", "label": "нет"}\n')
    assert labels(tmp_path / "m.jsonl", encoding="cp1251", delimiter=";") == ("да", "нет")


@pytest.mark.parametrize(
    ("name", "content", "keys", "words"),
    [
        ("m.csv", b"audio;label\na.wav;1,5\n", {}, "dataset.delimiter: expected columns of m.csv separated by commas, "
         "found semicolons in line 1 (audio;label); say --dataset.delimiter ';'."),
        ("m.csv", b"audio\tlabel\n", {}, r"found tabs in line 1 (audio\tlabel); say --dataset.delimiter tab."),
        ("m.csv", b"audio,label\n", {"delimiter": ";"}, "by semicolons, found commas in line 1 (audio,label)"),
        ("m.csv", b"audio|label\r\n", {}, "found bars in line 1 (audio|label); say --dataset.delimiter '|'."),
        ("m.tsv", b"audio,label\n", {}, "found commas in line 1 (audio,label); call it .csv, and say"),
        ("m.csv", ROWS.encode("cp1251"), {"delimiter": ";"}, "dataset.encoding: expected m.csv in utf-8, found other "
         "bytes in line 2, which read as cp1251 would be 'привет'; say --dataset.encoding cp1251."),
        ("m.csv", b"audio,label\na.wav,x\nb.wav,caf\xe9\n", {}, "in line 3, which read as cp1252 would be 'café'; say"),
        ("m.csv", b"audio,caf\xe9\na.wav,x\n", {}, "in line 1, which read as cp1252 would be 'café'"),
        ("m.csv", ROWS.encode(), {"delimiter": ";", "encoding": "ascii"}, "read as utf-8 would be 'привет'"),
        ("m.csv", ROWS.encode("utf-16"), {"delimiter": ";"}, "found utf-16 by its first bytes; say --dataset.encoding"),
        ("m.csv", b"audio\n".decode().encode("utf-16-be"), {}, "found utf-16-be by its first bytes"),
        ("m.csv", ROWS.encode("utf-8-sig"), {"encoding": "cp1251"}, "found utf-8 by its first bytes"),
        ("m.csv", ROWS.encode(), {"encoding": "utf-16"}, "in utf-16, found none of its null bytes; say --dataset.enc"),
        ("m.csv", "audio,label\na.wav,да\nb.wav,x".encode() + b"\xff\n", {}, "line 3, though others are in it; mend"),
        ("m.csv", "audio,label\na.wav,こん".encode("shift_jis")[:-1], {"encoding": "shift_jis"}, "mend that line"),
        ("m.csv", b"audio,label\n" + bytes(range(128, 256)), {}, "save it as UTF-8, or say --dataset.encoding."),
        ("m.jsonl", b'{"audio": "a.wav", "label": "x"}\n{"audio": "b.wav", "label": "caf\xe9"}\n', {}, "m.jsonl: "
         "expected text in utf-8, found other bytes in line 2, which read as cp1252 would be 'café'; save it as UTF-8, "
         "for example by `iconv -f cp1252 -t utf-8 m.jsonl`."),
        ("m.jsonl", '{"audio": "a.wav"}'.encode("utf-16"), {}, "found utf-16 by its first bytes; save it as UTF-8"),
        ("m.csv", b"audio,word\na.wav,x\n", {}, "; it has audio, word: name one by --dataset.label-column."),
    ],
)  # fmt: skip
def test_what_is_said_otherwise_is_refused_with_the_line_and_a_remedy(tmp_path, name, content, keys, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(words)):
        labels(tmp_path / name, **keys)


def test_a_line_far_below_is_found_and_long_characters_are_not_cut(tmp_path):
    rows = "audio;label\n" + "".join(f"{row}.wav;день\n" for row in range(8000))  # some 140 KiB: several blocks
    (tmp_path / "m.csv").write_bytes(rows.encode())
    assert labels(tmp_path / "m.csv", delimiter=";") == ("день",)
    (tmp_path / "m.csv").write_bytes(rows.replace("день", "day").encode() + "z.wav;ночь\n".encode("cp1251"))
    with pytest.raises(DataError, match="in line 8002, which read as cp1251 would be 'ночь'"):
        labels(tmp_path / "m.csv", delimiter=";")
