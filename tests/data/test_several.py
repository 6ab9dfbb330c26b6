"""Columns that give an example several labels, or none: every form, and what is taken for one label."""

import numpy as np
import pyarrow as pa
import pytest

from golem_ray.data.several import counts_of, encode, is_several, kinds_of, label_array, one_each, taken
from golem_ray.errors import DataError


def column(values, kind=None):
    return pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values, kind)])


def encoded(values, names=None, kind=None, **how):
    found, numbers = encode({"label": column(values, kind)}, names, **how)
    return found, numbers.to_pylist()


def named(values, names=None, kind=None, **how):
    """Each row's labels by name; None where they are not known."""
    found, rows = encoded(values, names, kind, **how)
    return [None if row is None else [found[number] for number in row] for row in rows]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.large_string())], ids=str
)
def test_lists_are_labels_in_the_order_of_names_each_once_and_null_is_none_of_them(kind):
    rows = [["joy", "fear"], [], None, ["fear", "joy", "fear"], ["anger"]]
    assert encoded(rows, kind=kind) == (("anger", "fear", "joy"), [[1, 2], [], [], [1, 2], [0]])


def test_lists_of_one_length_too():
    values = pa.array([["b", "a"], None, ["a", "a"]], pa.list_(pa.string(), 2))
    assert encoded(values) == (("a", "b"), [[0, 1], [], [0]])


def test_lists_of_numbers_are_in_numerical_order():
    assert encoded([[27, 4], [4], []]) == (("4", "27"), [[0, 1], [0], []])
    assert encoded([[27.0, 4.0], [4.5], []]) == (("4", "27"), [[0, 1], None, []])  # no number of a label


def test_parts_of_longer_columns_and_columns_in_parts_are_read_alike():
    parts = [pa.array([["x"], ["b"]]).slice(1), pa.array([["c", "b"], None, ["y"]]).slice(0, 2)]
    found, numbers = encode({"label": pa.chunked_array(parts)}, None)
    assert (found, numbers.to_pylist()) == (("b", "c"), [[0], [0, 1], []])


def test_a_label_that_is_null_is_not_known_and_a_blank_one_is_none():
    assert named([["joy", None], ["", "joy"], [" "], ["joy"]]) == [None, ["joy"], [], ["joy"]]


def test_numbers_of_a_class_label_are_its_names_and_a_row_with_one_out_of_range_is_not_known():
    names = ["neutral", "joy", "fear "]
    rows = [[2, 0], [3], [-1, 1], None, [], [1, 1]]
    assert encoded(rows, names, pa.list_(pa.int64())) == (
        ("neutral", "joy", "fear"),
        [[0, 2], None, None, [], [], [1]],
    )
    assert encoded([[0, 1], [2]], ["joy", "fear", "joy "]) == (("joy", "fear"), [[0, 1], [0]])  # two names are one
    assert encoded([["fear", "joy"], ["rage"]], names) == (("neutral", "joy", "fear"), [[1, 2], None])


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("[4 27]", ["4", "27"]),
        ("[ 4 27]", ["4", "27"]),
        (" [4, 27] ", ["4", "27"]),
        ("[4\n 27]", ["4", "27"]),
        ("[]", []),
        ("[ ]", []),
        ("", []),
        ("  ", []),
        (None, []),
        ("['joy', 'fear']", ["fear", "joy"]),
        ("['joy' 'fear']", ["fear", "joy"]),
        ("['joy']", ["joy"]),
        ('["joy", "joy"]', ["joy"]),
        ('["a b"]', ["a b"]),
        ("['a b' 'c']", ["a b", "c"]),
        ("['a, b', 'c']", ["a, b", "c"]),
        ('["it\'s", "c"]', ["c", "it's"]),
        ("[it's, so]", ["it's", "so"]),
        ("[joy,, fear,]", ["fear", "joy"]),
        ("""["a 'b'"]""", ["a 'b'"]),
        ("['']", []),
    ],
)
def test_text_in_brackets_is_a_list(text, labels):
    (found, _) = named([text, "[99]"])
    assert found == labels


def test_text_in_brackets_may_be_large_or_a_category():
    rows = ["[b a]", "[b]", None]
    for values in (pa.array(rows, pa.large_string()), pa.array(rows).dictionary_encode()):
        assert encoded(values) == (("a", "b"), [[0, 1], [1], []])


@pytest.mark.parametrize(
    "rows",
    [["[joy]", "fear"], ["joy", None], ["[joy] fear"], ["[[joy]]"], ["joy]"], ["", None]],
    ids=str,
)
def test_a_column_of_which_some_cells_alone_are_in_brackets_has_one_label_a_row(rows):
    assert not is_several(column(rows, pa.string()), None)
    found, numbers = encode({"label": column(rows, pa.string())}, None)
    assert numbers.type == pa.int64()
    assert set(found) == {row for row in rows if row}


@pytest.mark.parametrize("values", [[1, 2], [1.0, None], [True, False], ["a;b"], []], ids=str)
def test_other_columns_have_one_label_a_row(values):
    assert not is_several(column(values), None)


def test_a_separator_makes_lists_of_text():
    rows = ["joy;fear", "fear ; joy;fear", "joy", "", None, " ; ;", "[joy]"]
    assert named(rows, separator=";") == [["fear", "joy"], ["fear", "joy"], ["joy"], [], [], [], ["[joy]"]]
    assert named(["joy, fear", "joy"], separator=", ") == [["fear", "joy"], ["joy"]]
    assert named(pa.array(["b|a", "b"]).dictionary_encode(), separator="|") == [["a", "b"], ["b"]]
    assert encoded([12, 4], separator=";") == (("4", "12"), [[1], [0]])  # each row has one, and it may have more


def test_lists_need_no_separator():
    assert named([["a;b"], ["c"]], separator=";") == [["a;b"], ["c"]]


def test_names_are_composed_and_without_white_space():
    composed, parts = "\u0439", "\u0438\u0306"
    assert encoded([[f" {parts}"], [composed, f"{composed} "]]) == ((composed,), [[0], [0]])
    assert encoded([f"{parts};{composed}"], separator=";") == ((composed,), [[0]])
    assert encoded([f"[{parts} ]"]) == ((composed,), [[0]])
    found, _ = encode({f" {parts}": column([1, 0])}, None, several=True)
    assert found == (composed,)
    assert encoded([[parts]], label_map={composed: f"{parts} "}) == ((composed,), [[0]])


def columns(**values):
    found, numbers = encode({name: column(each) for name, each in values.items()}, None, several=True)
    return found, numbers.to_pylist()


@pytest.mark.parametrize(
    "yes_no",
    [[1, 0], [1.0, 0.0], [True, False], ["1", "0"], [" TRUE ", "False"], ["1.0", "0.0"], [1, None], ["1", ""]],
    ids=str,
)
def test_columns_of_0_and_1_are_labels_in_their_order(yes_no):
    yes, no = yes_no
    values = {"joy": [yes, no, no, yes], "anger": [no, yes, no, yes]}
    assert columns(**values) == (("joy", "anger"), [[0], [1], [], [0, 1]])


@pytest.mark.parametrize("junk", [2, 0.5, "x", "yes"], ids=str)
def test_a_row_with_anything_else_is_not_known(junk):
    values = pa.array([str(each) for each in (1, junk, 0)]) if isinstance(junk, str) else pa.array([1, junk, 0])
    assert columns(joy=values, fear=pa.array([True, True, None])) == (("joy", "fear"), [[0, 1], None, []])


@pytest.mark.parametrize("values", [["yes", "no"], [2, 3], [["a"], ["b"]]], ids=str)
def test_a_column_that_holds_no_0_and_1_is_refused(values):
    with pytest.raises(DataError, match=r"^dataset\.label_columns: expected 0 and 1 in 'mood', found .*\.$"):
        columns(joy=[1, 0], mood=values)


def test_columns_that_are_all_empty_say_no():
    assert columns(joy=pa.nulls(2), fear=["", ""]) == (("joy", "fear"), [[], []])


def test_columns_whose_names_differ_by_white_space_alone_are_refused():
    with pytest.raises(DataError, match=r"^dataset\.label_columns: .* white space"):
        columns(**{"joy": [1, 0], "joy ": [0, 1]})


MAP = {"happy": "joy", "glad": "joy", "afraid": "fear", "dull": ""}


def test_a_map_names_joins_and_leaves_out_labels_of_which_each_row_has_one():
    rows = ["glad", "afraid", "dull", "angry", "joy", None, " happy"]
    assert encoded(rows, label_map=MAP) == (("joy", "fear"), [0, 1, None, None, 0, None, 0])
    assert encoded([4, 27, 3], label_map={"27": "b", "4": "a", "3": ""}) == (("b", "a"), [1, 0, None])
    assert encoded([0, 1, 2], ["happy", "afraid", "angry"], label_map=MAP) == (("joy", "fear"), [0, 1, None])


def test_a_map_names_joins_and_leaves_out_labels_of_which_a_row_has_several():
    rows = [["glad", "happy"], ["afraid", "dull"], ["dull"], ["angry", "glad"], [], ["fear", "glad"], None]
    assert encoded(rows, label_map=MAP) == (("joy", "fear"), [[0], [1], [], None, [], [0, 1], []])
    assert named(["[4 27]", "[27]", "[3]"], label_map={"4": "a", "27": ""}) == [["a"], [], None]
    names = ["happy", "afraid", "dull"]
    assert encoded([[0, 2], [9], [1]], names, label_map=MAP) == (("joy", "fear"), [[0], None, [1]])
    found, numbers = encode({"happy": column([1, 1, 0]), "glad": column([0, 1, 2])}, None, several=True, label_map=MAP)
    assert (found, numbers.to_pylist()) == (("joy", "fear"), [[0], [0], None])


def test_a_map_does_not_follow_itself():
    assert encoded(["a", "b", "c"], label_map={"a": "b", "b": "c"}) == (("b", "c"), [0, 1, 1])


def test_a_map_of_nothing_gives_its_names():
    for kind in (pa.string(), pa.list_(pa.string())):
        assert encoded([], kind=kind, label_map=MAP) == (("joy", "fear"), [])


@pytest.mark.parametrize("seed", range(3))
def test_lists_are_a_table_of_yes_and_no_and_back(seed):
    rng = np.random.default_rng(seed)
    table = rng.uniform(size=(30, 7)) < 0.3
    names = [f"label-{number}" for number in range(7)]
    rows = [[names[number] for number in rng.permutation(np.flatnonzero(row))] for row in table]
    _, numbers = encode({"label": column(rows, pa.list_(pa.string()))}, None)
    used = np.flatnonzero(table.any(axis=0))
    assert np.array_equal(label_array(numbers, len(used)), table[:, used])
    assert np.array_equal(label_array(numbers.slice(4, 9), len(used)), table[4:13, used])
    wider = label_array(pa.chunked_array([numbers]), 9)
    assert wider.shape == (30, 9)
    assert not wider[:, len(used) :].any()
    assert np.array_equal(counts_of(wider, 12), [*table[:, used].sum(axis=0), *[0] * (12 - len(used))])


def test_one_label_a_row_is_an_array_of_numbers():
    found = label_array(pa.array([2, 0, 2]), 3)
    assert (found.dtype, found.tolist()) == (np.int64, [2, 0, 2])
    assert counts_of(found, 4).tolist() == [1, 0, 2, 0]


def test_kinds_are_equal_where_the_labels_are():
    lists = pa.array([[0, 1], [1], None, [0, 1], [], []], pa.list_(pa.int64()))
    found = kinds_of(lists)
    assert (found[0], found[4]) == (found[3], found[5])
    assert len(set(found[[0, 1, 4]].tolist())) == 3
    assert np.isnan(found).tolist() == [False, False, True, False, False, False]
    assert kinds_of(pa.array([3, None, 3, 1])).tolist()[::2] == [3.0, 3.0]
    assert np.isnan(kinds_of(pa.array([3, None])))[1]


def test_one_label_each_as_lists():
    found = one_each(pa.chunked_array([pa.array([2, None]), pa.array([0])]))
    assert (found.type, found.to_pylist()) == (pa.list_(pa.int64()), [[2], None, [0]])
    assert one_each(pa.array([], pa.int64())).to_pylist() == []


def test_numbers_are_changed_in_either_form():
    numbers = pa.array([5, None, 3], pa.int64())
    assert taken(numbers, pa.array([2, 0, 1, None])).to_pylist() == [3, 5, None, None]
    lists = pa.array([[0, 2], [1], [], None, [0]], pa.list_(pa.int64()))
    assert taken(numbers, lists).to_pylist() == [[3, 5], None, [], None, [5]]
