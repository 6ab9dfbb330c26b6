"""What there is to say of a text before anything is trained."""

from collections import Counter

import pytest

from golem_ray.errors import ExampleError
from golem_ray.text import MODALITY
from golem_ray.text.facts import plain_words, script_of


def described(text):
    return MODALITY.describe(text.encode())


def flags_of(text):
    facts = described(text)
    return {fact.key for fact in MODALITY.facts if fact.kind == "flag" and facts[fact.key]}


def same_words(*texts):
    return len({described(text)["same_words"] for text in texts}) == 1


def test_a_plain_text_has_its_lengths_script_and_characters():
    facts = described("Ну, я-то пошёл!")
    assert (facts["characters"], facts["words"], facts["script"]) == (15, 4, "Cyrillic")
    assert facts["letters"] == Counter("Ну, я-то пошёл!")
    assert flags_of("Ну, я-то пошёл!") == set()
    assert set(facts) == {fact.key for fact in MODALITY.facts}


def test_the_script_is_that_of_nine_tenths_of_the_letters():
    assert script_of("Привет мир a") == "mixed"  # one of ten
    assert script_of("Привет мира a") == "Cyrillic"  # one of eleven
    assert script_of("123 :)") == "none"
    for text, script in (
        ("ｈｅｌｌｏ 𝐰𝐨𝐫𝐥𝐝", "Latin"),  # full width, and mathematical
        ("мʼята", "Cyrillic"),  # whose apostrophe is a letter
        ("漢字です", "Japanese"),
        ("コーヒー", "Japanese"),
        ("漢字", "Han"),
        ("שלום", "Hebrew"),
    ):
        assert script_of(text) == script, text


def test_the_words_are_the_same_however_they_are_written():
    assert same_words(
        "Ещё раз: ВСЁ!",
        "еще раз все",
        "ещ\u0435\u0308 ра\u0301з, все...",
        "\u00abЕщё\u00bb\u200b\n ра\u00adз в\u200bсё",
    )
    assert same_words("don't", "Don’t")
    assert same_words("ﬁne 5", "fine ５")
    assert same_words("СТРАНА_МОЯ", "страна моя")
    assert not same_words("раз два", "раздва")
    assert not same_words("мой", "мои")  # a breve is part of the letter, a stress mark is not
    assert not same_words("résumé", "resume")
    assert plain_words("हिन्दी में") == ["हिन्दी", "में"]  # whose vowels are marks


def test_emoji_are_kept_apart_from_words_and_count_as_none():
    assert same_words("Спасибо 👍", "спасибо👍🏽", "спасибо, 👍\ufe0f!")
    assert not same_words("Спасибо 👍", "Спасибо 👎", "Спасибо")
    assert described("Спасибо👍👍 друг")["words"] == 2


def test_texts_without_words_are_the_same_if_their_signs_are():
    assert same_words("?! ", " ?!")
    assert not same_words("?!", "?!!")
    assert flags_of("😂 123?!") == {"no_letters"}


def test_a_text_is_long_beyond_350_words():
    assert [described("слово, " * count)["long"] for count in (350, 351)] == [False, True]
    assert not described("!? 👍 " * 1000)["long"]


@pytest.mark.parametrize(
    "text",
    [
        "Да<br>нет",
        "<p class='x'>Да</p>",
        "a<BR />b",
        "<!-- x -->",
        "Тома &amp; Джерри",
        "it&#39;s",
        "&#x27;",
        "a&nbsp;b",
    ],
)
def test_html_is_found(text):
    assert "markup" in flags_of(text)


@pytest.mark.parametrize(
    "text", ["<user> сказал", "<3 a > b", "a<b", "AT&T; &да; &unknown;", "x < y > z", "<грусть>", "&amp"]
)
def test_what_only_looks_like_html_is_not(text):
    assert "markup" not in flags_of(text)


def test_capitals_alone_are_shouted_but_for_abbreviations():
    assert [
        text for text in ("ЭТО ЛОЖЬ!", "НАТО?", "США 2020", "ЭТО ЛОжЬ", "ПРИВЕТ 1") if "capitals" in flags_of(text)
    ] == [
        "ЭТО ЛОЖЬ!",
        "ПРИВЕТ 1",
    ]
    assert "capitals" not in flags_of("漢字漢字漢字")  # which has none


def test_characters_that_were_lost_are_found():
    assert flags_of("При\ufffdет всем") == {"lost"}


def test_utf_8_that_was_read_as_something_else_is_found():
    for encoding in ("cp1251", "cp1252", "latin-1"):
        assert "garbled" in flags_of("Ну, привет!".encode().decode(encoding, "ignore")), encoding


def test_what_no_encoder_takes_has_no_facts_but_a_reason():
    for content, reason in (
        (b"", "empty text"),
        ("Привет".encode("cp1251"), "not UTF-8"),
        (b"a" * 100_001, "more than"),
    ):
        with pytest.raises(ExampleError, match=reason):
            MODALITY.describe(content)
