"""Texts without each of their words."""

import pytest

from golem_ray.errors import ExampleError
from golem_ray.text.occlude import occluded


def words_of(text, most=60):
    return [word for word, _ in occluded(text.encode(), most)[0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ненавижу вас, всех!", ["Ненавижу", "вас", "всех"]),
        ("кто-то don’t - 'так' a--b", ["кто-то", "don’t", "так", "a", "b"]),
        ("Её́ 3-й №5 a_b", ["Её́", "3-й", "5", "a", "b"]),  # a stress mark is part of its word
        ("мило 😂😂 да👍🏽, ❤️", ["мило", "😂😂", "да", "👍🏽", "❤️"]),
        ("👩‍👩‍👧", ["👩‍👩‍👧"]),
        ("?! ...", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_as_they_are_written(text, words):
    assert words_of(text) == words


def test_a_word_is_left_out_where_it_stands_and_only_there():
    parts, rest = occluded("\ufeffДа, да — Да!".encode(), 60)
    assert [(word, without.decode()) for word, without in parts] == [
        ("Да", ", да — Да!"),
        ("да", "Да,  — Да!"),
        ("Да", "Да, да — !"),
    ]
    assert rest == 0


def test_words_behind_the_first_are_counted():
    parts, rest = occluded("а б в г д".encode(), 2)
    assert ([word for word, _ in parts], rest) == (["а", "б"], 3)


def test_what_is_no_text_has_no_words():
    with pytest.raises(ExampleError, match="not UTF-8"):
        occluded(b"\xff\xfea\x00", 60)
