"""Which encoding a text is guessed to be in."""

import pytest

from golem_ray.data.encodings import likely_encoding, marked


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1251", ["привет", "ПРИВЕТ", "да", "оплата счёта", "Погода"]),
        ("koi8-r", ["привет", "ПРИВЕТ", "да", "оплата счёта"]),
        ("cp866", ["привет", "ПРИВЕТ", "да", "оплата счёта"]),
        ("cp1252", ["café", "Überweisung", "déjà vu", "ÉTÉ", "São Paulo"]),
        ("cp1250", ["książka", "światło"]),
        ("cp1253", ["Καλημέρα"]),
        ("shift_jis", ["天気はどう", "カタカナ"]),
        ("gb18030", ["打开卧室的灯"]),
        ("utf-8", ["привет", "café"]),
    ],
)
def test_a_word_is_enough_for_a_guess(encoding, words):
    for word in words:
        first = next(part for part in word.split() if not part.isascii())
        assert likely_encoding(f"a.wav;{word}\n".encode(encoding)) == (encoding, first)


def test_what_is_no_text_is_not_guessed():
    assert likely_encoding(b"plain") is None
    assert likely_encoding(bytes(range(0x80, 0x100))) is None
    cut = "привет".encode()[:-1]
    assert likely_encoding(cut) == ("utf-8", "приве")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_a_mark_or_null_bytes_say_the_encoding(encoding):
    assert marked("audio,label\n".encode(encoding)) == encoding.removesuffix("-sig")
    assert marked(b"audio,label\n") is None
    assert marked(b"a\0udio,label\n") is None
