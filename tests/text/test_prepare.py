"""What is done to a text before a tokenizer gets it: NFKC, emoji in words, replacements."""

from __future__ import annotations

import builtins
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golem_ray.config import ProcessingConfig
from golem_ray.errors import ConfigError
from golem_ray.text import prepare
from golem_ray.text.prepare import MAX_REPLACEMENTS, Preparation, configured_preparation, prepared, read_replacements

PLAIN, RUSSIAN = Preparation(), Preparation(emoji="ru")


def replacing(**words: str) -> Preparation:
    return Preparation(replacements=tuple(sorted(words.items())))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("е\u0308лка и и\u0306од", "ёлка и йод"),
        ("ﬁne ｔｅｘｔ №5 ½", "fine text No5 1⁄2"),
        ("  a\t b\n\nc\u00a0d\u3000 ", "a b c d"),
        ("Ёлка, «ещё»…", "Ёлка, «ещё»..."),
        ("", ""),
    ],
)
def test_a_text_is_brought_to_nfkc_with_single_spaces(text, expected):
    assert prepared(text, PLAIN) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ха😂😂!", "ха смеется до слез смеется до слез !"),
        ("👍🏽", "большой палец вверх"),
        ("🏽", ""),
        ("👩🏿‍💻", "женщина инженер"),
        ("⬛🔈", "большой черный квадрат низкая громкость"),
        ("🦸‍♂️⏭️🎚️", "мужчина-супергерой следующий трек слайдер"),
        ("🇷🇺", "флаг Россия"),
        ("территории и 🏞️", "территории и национальный парк"),
        ("мои синие и свои", "мои синие и свои"),
    ],
)
def test_emoji_are_named_in_russian_without_skin_tones_and_with_short_i(text, expected):
    assert prepared(text, RUSSIAN) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("среднии тон", "средний тон"),
        ("темныи", "темный"),
        ("другои", "другой"),
        ("маленькии", "маленький"),
        ("следующии", "следующий"),
        ("мужчина-полицеискии", "мужчина-полицейский"),
        *[(word, word) for word in ("территории", "Японии", "руки", "такси", "люди", "три", "и", "ожидании", "стоит")],
    ],
)
def test_short_i_is_put_back_at_the_end_of_adjectives_alone(name, expected):
    assert prepare._mended(name) == expected


def test_emoji_are_named_in_other_languages_and_else_stay():
    assert prepared("ok 😀", Preparation(emoji="en")) == "ok grinning face"
    assert prepared("ok 👍🏽", Preparation(emoji="de")) == "ok daumen hoch"
    assert prepared("ok 👍🏽", PLAIN) == "ok 👍🏽"
    plain = "".join(map(chr, range(33, 127)))  # with :smile: and digits, which emoji begin with
    assert prepared(f"{plain} :smile: 1 2 #", RUSSIAN) == f"{plain} :smile: 1 2 #"


def test_without_the_library_naming_emoji_is_refused(monkeypatch):
    import_one = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "emoji":
            raise ModuleNotFoundError(name)
        return import_one(name, *arguments)

    prepare._names_of_emoji.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"^processing\.emoji_language: expected .*golem_ray\[emoji\]"):
        configured_preparation(ProcessingConfig(emoji_language="ru"))
    assert configured_preparation(ProcessingConfig()) == PLAIN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("кыргыз киргиз", "кыргыз кыргыз"),
        ("Киргиз, КИРГИЗ! киргиза", "Кыргыз, КЫРГЫЗ! киргиза"),
        ("(киргиз) «киргиз».", "(кыргыз) «кыргыз»."),
        ("северо-киргиз и Киргиз-хан", "северо-кыргыз и Кыргыз-хан"),
        ("Из-за того, КОЕ-КАК", "Так как того, КОЕ-КАК"),
        ("щас Щас ЩАС", "сейчас Сейчас СЕЙЧАС"),
        ("э эм Э", ""),
        ("ч Ч", "что Что"),
        ("кирги́з", "кирги́з"),  # with an accent it is another word
    ],
)
def test_whole_words_are_replaced_with_their_case(text, expected):
    table = replacing(киргиз="кыргыз", щас="сейчас", **{"из-за": "так как", "э": "", "эм": "", "ч": "что"})
    assert prepared(text, table) == expected


def test_replacements_are_read_from_a_csv(tmp_path):
    place = tmp_path / "words.csv"
    place.write_text(
        '\ufefffrom, to\nЩас, сейчас \nи\u0306од,иод\n\nщас,СЕЙЧАС\nэм,\n"из-за","так, как"\n', encoding="utf-8"
    )
    expected = (("из-за", "так, как"), ("йод", "иод"), ("щас", "сейчас"), ("эм", ""))
    assert read_replacements(str(place)) == expected
    preparation = configured_preparation(ProcessingConfig(replacements=str(place)))
    assert prepared("ЩАС эм приду", preparation) == "СЕЙЧАС приду"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected the columns from,to in the first line"),
        (b"word,other\na,b\n", "expected the columns from,to in the first line"),
        (b"from;to\na;b\n", "expected the columns from,to in the first line"),
        (b"from,to\na,b\nc\n", "expected a word and what stands for it in line 3"),
        (b"from,to\na,b,c\n", "expected a word and what stands for it in line 2"),
        (b"from,to\ntwo words,b\n", "expected a word and what stands for it in line 2"),
        (b"from,to\n,b\n", "expected a word and what stands for it in line 2"),
        (b"from,to\na,b\na,c\n", "expected each word once in line 3"),
        (b"from,to\na,b\n\nA,c\n", "expected each word once in line 4"),
        ("from,to\nщас,да\n".encode("cp1251"), "in UTF-8, found other bytes"),
        (b"from,to\n" + b"a" * 200_000 + b",b\n", "expected a CSV"),
        (b'from,to\n"a,b\n' + b"c,d\n" * 50_000, "expected a CSV"),
        (b"\n".join([b"from,to", *(b"a%d,b" % number for number in range(MAX_REPLACEMENTS + 1))]), "at most 10000"),
    ],
    ids=range(13),
)
def test_a_table_of_replacements_that_is_none_is_one_clear_error(tmp_path, content, message):
    place = tmp_path / "words.csv"
    place.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^processing\.replacements: ") as error:
        configured_preparation(ProcessingConfig(replacements=str(place)))
    assert message in str(error.value)
    assert str(place) in str(error.value)
    assert "\n" not in str(error.value)


def test_old_line_ends_are_read_and_a_missing_table_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mac.csv").write_bytes(b"from,to\ra,b\rc,d\r")
    (tmp_path / "windows.csv").write_bytes(b"from,to\r\na,b\r\nc,d\r\n")
    for name in ("mac.csv", "windows.csv"):
        assert read_replacements(str(tmp_path / name)) == (("a", "b"), ("c", "d"))
    for place in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ConfigError, match=r"^processing\.replacements: expected to be able to read .*/"):
            read_replacements(str(place))


def test_what_was_prepared_is_left_as_it_is():
    rng = np.random.default_rng(0)
    letters = [chr(point) for point in (*range(32, 127), *range(0x400, 0x460), 0x300, 0x306, 0x308, 0xA0, 0xA8, 0x2011)]
    letters += [*"😀👍🏽❤\ufe0f\u200dﬁ½№…ﷺ①™ℹ‼\t\n\u2028", *map(chr, range(0x1F600, 0x1F610)), "🇷", "🇺"]
    for preparation in (PLAIN, RUSSIAN, Preparation(emoji="en", replacements=(("a", "b"), ("щас", "сейчас")))):
        for _ in range(300):
            text = "".join(rng.choice(letters, size=12))
            once = prepared(text, preparation)
            assert prepared(once, preparation) == once, ascii(text)
            assert once == unicodedata.normalize("NFKC", once), ascii(text)
            assert once == " ".join(once.split()), ascii(text)
