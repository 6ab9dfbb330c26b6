from golem_ray.report.counts import count_lines, count_table


def counted(counts, rest=0):
    return {"title": "alphabet", "unit": "characters", "how": "As written.", "counts": counts, "rest": rest}


MANY = {chr(0x430 + n): 100 - n for n in range(32)}


def test_a_terminal_shows_how_many_the_most_frequent_and_the_rarest():
    assert count_lines(counted(MANY)) == [
        "alphabet                 32 different characters",
        "  most frequent          а (100), б (99), в (98), г (97), д (96), е (95), ж (94), з (93)",
        "  rarest                 я (69), ю (70), э (71), ь (72), ы (73), ъ (74), щ (75), ш (76)",
    ]
    assert count_lines(counted({"a": 2, "b": 1}, rest=5)) == [
        "alphabet                 2 different characters, and others that occur 5 times in all",
        "                         a (2), b (1)",
    ]


def test_what_cannot_be_seen_is_named_or_escaped():
    odd = {" ": 9, "\n": 8, "\x1b": 7, "\u200b": 6, "\u202e": 5, "\ue000": 4, "\u0301": 3, "\u3164": 2, "\ufe0f": 1}
    names = ("SPACE", r"\n", r"\x1b", "ZERO WIDTH SPACE", "RIGHT-TO-LEFT OVERRIDE", r"\ue000")
    marks = ("COMBINING ACUTE ACCENT", "HANGUL FILLER", "VARIATION SELECTOR-16")
    (_, line) = count_lines(counted(odd))
    assert line.strip() == ", ".join(f"{name} ({9 - at})" for at, name in enumerate((*names, *marks)))
    assert line.isascii()


def test_a_terminal_shows_the_invisible_among_many():
    *_, line = count_lines(counted({**MANY, " ": 50, "\u200b": 40, "\n": 30, "\xa0": 2, **dict.fromkeys("yz", 1)}))
    assert line == "  invisible              ZERO WIDTH SPACE (40), NO-BREAK SPACE (2)"
    controls = {chr(n): 1 for n in range(1, 10)}
    assert count_lines(counted({**MANY, **controls}))[-1].endswith(r"\x08 (1) and 1 more")


def test_the_page_names_every_character_and_escapes_it():
    page = count_table(counted({"<": 9, "\u202e": 5, "\n": 4, "\u0301": 3, "&": 1, "\ufe0f": 1}))
    for row in (
        "<td>&lt;</td><td>U+003C</td><td>LESS-THAN SIGN</td>",
        "<td></td><td>U+202E</td><td>RIGHT-TO-LEFT OVERRIDE</td>",
        "<td></td><td>U+000A</td><td>control character</td>",
        "<td>\u25cc\u0301</td><td>U+0301</td><td>COMBINING ACUTE ACCENT</td>",
        "<td></td><td>U+FE0F</td><td>VARIATION SELECTOR-16</td>",
        "<td>&amp;</td><td>U+0026</td><td>AMPERSAND</td>",
    ):
        assert row in page
    assert "\u202e" not in page
    assert "6 different characters. As written." in page
    assert "rarer ones" not in page


def test_the_page_shows_a_thousand():
    page = count_table(counted({chr(0x4E00 + n): 2000 - n for n in range(1200)}, rest=7))
    assert page.count("<tr>") == 1001
    assert "And 200 rarer ones" in page
    assert "and others that occur 7 times in all" in page


def test_things_of_several_characters_have_no_names():
    page = count_table(counted({"<b>": 2, "y": 1}))
    assert "<td>&lt;b&gt;</td>" in page
    assert "LATIN" not in page
    assert "U+" not in page
