"""What a saved classifier takes clips for: the same through Ray, in this process and by hand; and where that goes."""

import csv
import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import golem_ray
from golem_ray import artifact
from golem_ray.config import DatasetConfig, ExamplesConfig, PredictConfig, ProcessingConfig
from golem_ray.errors import DataError
from golem_ray.jobs.engines import HANDFUL
from golem_ray.jobs.predict import as_text, check_output, predict, write_predictions
from tests.conftest import audio_bytes
from tests.jobs.runs import HERE, NAMES


def by_hand(path, embeddings):
    """The probabilities, from the two files alone."""
    state = torch.load(path, weights_only=True)
    calibration = json.loads(path.with_suffix(".json").read_text())["metrics"]["calibration"]
    logits = torch.tensor(embeddings) @ state["weight"].T + state["bias"]
    return (logits / calibration["temperature"]).softmax(dim=1).numpy()


def test_a_job_python_and_plain_arithmetic_agree(applied, applied_cache):
    """60 clips at once and thirty, golem_ray.load, and weight and bias by hand."""
    clips, path = applied
    saved = artifact.load(str(path))
    files = [str(clips / "clips" / f"{row}.wav") for row in range(60)]
    assert len(files) > HANDFUL
    at_once = list(predict(saved, files, PredictConfig(top_k=4, embedding_cache=applied_cache, **HERE)))
    here = [row for start in (0, 30) for row in predict(saved, files[start : start + 30], PredictConfig(top_k=4))]
    classifier = golem_ray.load(str(path))
    in_python = classifier.predict(files)
    from golem_ray.embedding.loaded import NO_DATA, Read
    from golem_ray.speech.read import load_clip

    waveforms = [load_clip((clips / "clips" / f"{row}.wav").read_bytes(), 16000) for row in range(60)]
    expected = by_hand(path, classifier.embed([Read(each, NO_DATA) for each in waveforms]))
    labels = sorted(NAMES)
    for row in range(60):
        ranked = expected[row].argsort()[::-1]
        for found in (at_once[row], here[row]):
            assert found["id"] == files[row]
            assert found["label"] == labels[ranked[0]] == in_python[row].label
            assert [found[f"label_{place}"] for place in (2, 3, 4)] == [labels[number] for number in ranked[1:]]
            assert found["probability"] == pytest.approx(expected[row].max(), abs=1e-5)
        assert in_python[row].probability == pytest.approx(expected[row].max(), abs=1e-5)


def test_an_unsure_clip_and_a_bad_one_are_said(applied, tmp_path):
    clips, path = applied
    saved = artifact.load(str(path))
    folder = tmp_path / "mixed"
    shutil.copytree(clips / "clips", folder / "deep", ignore=lambda _, names: [name for name in names if len(name) > 5])
    (folder / "bad.wav").write_bytes(b"noise")
    os.mkfifo(folder / "pipe.wav")
    (folder / "notes.txt").write_text("not a clip")
    rows = list(predict(saved, [str(folder)], PredictConfig(threshold=0.999999)))
    assert len(rows) == 12
    assert rows.pop()["problem"] == "a pipe, not a file"
    assert rows[0]["id"].endswith("bad.wav")
    assert (rows[0]["label"], rows[0]["probability"]) == (None, None)
    assert "not audio" in rows[0]["problem"]
    assert {row["label"] for row in rows[1:]} == {"unsure"}
    assert {row["likeliest"] for row in rows[1:]} <= set(NAMES)
    lines = list(as_text(rows))
    assert "not audio" in lines[0]
    assert "  unsure  (" in lines[1]
    assert {row["label"] for row in predict(saved, [str(folder)], PredictConfig(threshold=0.0))} <= {None, *NAMES}
    with pytest.raises(DataError, match=r"expected clips that can be used, found none among 1 \(.*not audio"):
        list(predict(saved, [str(folder / "bad.wav")], PredictConfig()))


@pytest.fixture
def signed(applied):
    """URIs of one clip, on a server that gives it to whom it knows: a signed one, one with a password, a false one."""
    content = (applied[0] / "clips" / "0.wav").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            known = "X-Amz-Signature=SECRET" in self.path or "Authorization" in self.headers
            self.send_response(200 if known else 403)
            self.send_header("Content-Length", str(len(content) if known else 0))
            self.end_headers()
            self.wfile.write(content if known else b"")

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    yield (
        host,
        [
            f"http://{host}/a.wav?X-Amz-Signature=SECRET",
            f"http://u:SECRET@{host}/b.wav",
            f"http://{host}/c.wav?sig=SECRET",
        ],
    )
    server.shutdown()
    server.server_close()


def test_signed_uris_are_read_and_nothing_secret_of_them_is_shown_or_written(applied, signed, tmp_path, caplog):
    host, uris = signed
    saved = artifact.load(str(applied[1]))
    config = PredictConfig(processing=ProcessingConfig(max_bad_fraction=0.5), **HERE)
    manifest = tmp_path / "clips.csv"
    manifest.write_text("\n".join(["audio", *uris]))
    for files in (uris[:2], [str(manifest)]):
        rows = list(predict(saved, files, config))
        assert [row["id"] for row in rows] == [f"http://{host}/{name}.wav" for name in "abc"][: len(rows)]
        assert rows[0]["label"] == rows[1]["label"] in NAMES
        write_predictions(str(tmp_path / "said.csv"), iter(rows))
        assert "SECRET" not in "\n".join([*as_text(rows), (tmp_path / "said.csv").read_text(), caplog.text])
    assert "Forbidden" in rows[2]["problem"]
    with pytest.raises(DataError, match=f"^http://{host}/c.wav: expected to be able to read it") as refused:
        list(predict(saved, uris[2:], config))
    assert "SECRET" not in str(refused.value)


def test_names_are_printed_without_what_a_terminal_would_obey():
    row = {"id": "a\x1b[31m\nb.wav", "label": "x\u202ey", "probability": 0.5, "problem": None, "remark": None}
    assert list(as_text([row])) == [r"a\x1b[31m\nb.wav  x\u202ey  (50.0%)"]


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predictions_are_written_as_the_suffix_says(applied, tmp_path, suffix):
    clips, path = applied
    saved = artifact.load(str(path))
    config = PredictConfig(output=str(tmp_path / "new" / f"out{suffix}"), top_k=2)
    output = check_output(config)
    still = tmp_path / os.fsdecode(b"caf\xe9.wav")  # no UTF-8
    still.write_bytes(audio_bytes(np.zeros(800, np.float32)))
    files = [*(str(clips / "clips" / name) for name in ("0.wav", "absent.wav")), str(still)]
    rows = list(predict(saved, files, config))
    assert rows[2]["id"] == str(tmp_path / r"caf\xe9.wav")
    assert [line.endswith("%)  [silent]") for line in as_text(rows)] == [False, False, True]
    assert write_predictions(output, iter(rows)) == 3
    if suffix == ".csv":
        with open(output, newline="") as file:
            found = list(csv.DictReader(file))
        assert found[0]["probability"] == str(rows[0]["probability"])
        assert (found[1]["label"], found[1]["problem"]) == ("", "missing file")
        assert [row["remark"] for row in found] == ["", "", "silent"]
    else:
        lines = pq.read_table(output).to_pylist() if suffix == ".parquet" else read_lines(output)
        assert lines == rows
    assert list(rows[0]) == ["id", "label", "probability", "label_2", "probability_2", "problem", "remark"]


def test_predictions_go_to_a_uri_and_clips_come_from_a_manifest(applied, tmp_path):
    import fsspec

    clips, path = applied
    saved = artifact.load(str(path))
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"audio\n{clips}/clips/5.wav\n{clips}/clips/6.wav\n")
    rows = list(predict(saved, [str(manifest), str(clips / "clips" / "7.wav")], PredictConfig()))
    assert [os.path.basename(row["id"]) for row in rows] == ["5.wav", "6.wav", "7.wav"]
    limited = PredictConfig(processing=ExamplesConfig(max_samples=2))
    assert len(list(predict(saved, [str(manifest), str(clips / "clips" / "7.wav")], limited))) == 2
    labelled = PredictConfig(dataset=DatasetConfig(name=str(clips)), processing=ExamplesConfig(max_samples=3))
    assert [os.path.basename(row["id"]) for row in predict(saved, (), labelled)] == ["0.wav", "1.wav", "2.wav"]
    write_predictions("memory://out/p.jsonl", iter(rows))
    fs = fsspec.filesystem("memory")
    assert len(fs.cat("/out/p.jsonl").splitlines()) == 3
    fs.rm("/out", recursive=True)
