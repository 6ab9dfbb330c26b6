"""UTF-8 that was read as something else."""

import pytest

from golem_ray.text.garbled import is_garbled


def read_as(text, encoding):
    """As a program shows it that takes UTF-8 for that encoding, with control characters for what the encoding lacks."""
    return "".join(bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize("encoding", ["cp1251", "cp1252", "latin-1"])
@pytest.mark.parametrize("text", ["пр", "я ухожу", "ЭТО ЛОЖЬ", "їжак", "it’s", "— no", "wait…", "ok 😂"])
def test_what_was_read_in_a_wrong_encoding_is_found(text, encoding):
    assert is_garbled(f"a {read_as(text, encoding)} b")


@pytest.mark.parametrize("text", ["café", "naïve", "Größe", "5 °C", "El Niño", "Ça va", "Évora"])
def test_accents_read_as_latin_1_are_found(text):
    assert is_garbled(read_as(text, "latin-1"))
    assert is_garbled(read_as(text, "cp1252"))


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "«Съешь ещё этих мягких французских булок, да выпей чаю»",
        "СССР» и США… С… «С» — С№ 5 Р°",
        "С\u00a0уважением, Р.\u00a0С.",
        "Гёте, в… и «в»",
        "ТЕРИТОРІЇ РІСТ СІРІ КОТИ їхні",
        "ЉУБАВ ЊЕГОШ ЂАК ЋЕВАПИ ЏЕП СЈАЈ",
        "GRÂCE À «ÇA», IRMÃ» IRMÃ… SÃO ÑANDÚ Ðe Ñ",
        "ÂM NHẠC âm €5",
        "😂 ™ № §5 ±3 °C",
    ],
)
def test_what_languages_write_is_not(text):
    assert not is_garbled(text)
