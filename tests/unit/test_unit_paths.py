"""How tables come to their units: orders, keys, and paths that lead nowhere."""

from __future__ import annotations

import pytest

from luoshu.sandbox.schema import UnitKey
from luoshu.sandbox.unit_paths import UnitSource, resolve_units


def sources(declared: dict) -> dict[str, UnitSource]:
    return {source.table: source for source in resolve_units(declared)}


def test_each_table_comes_after_the_one_it_refers_to() -> None:
    found = resolve_units(
        {
            "item": ("lineitem", {"i_line": "l_line"}),
            "lineitem": ("orders", {"l_orderkey": "o_orderkey"}),
            "part": None,
            "orders": "o_custkey",
        }
    )
    assert [source.table for source in found] == ["orders", "lineitem", "item", "part"]
    assert [source.is_public for source in found] == [False, False, False, True]


def test_both_sides_of_a_path_have_the_key() -> None:
    found = sources(
        {"o": "u", "l": ("o", {"b2": "b", "a2": "a"}), "m": ("o", {"a": "a", "b": "b"})}
    )
    assert found["o"].keys == (UnitKey("o(a, b)", ("a", "b")),)
    assert found["l"].keys == (UnitKey("o(a, b)", ("a2", "b2")),)
    assert found["l"].on == (("a2", "a"), ("b2", "b"))
    assert found["m"].keys == found["o"].keys
    assert found["o"].names == ("u", "a", "b")


def test_other_columns_are_another_key() -> None:
    found = sources({"o": "u", "l": ("o", {"x": "a"}), "m": ("o", {"y": "b"})})
    assert [key.domain for key in found["o"].keys] == ["o(a)", "o(b)"]


def test_key_of_a_key_names_the_same() -> None:
    found = sources({"o": "u", "l": ("o", {"x": "a"}), "m": ("l", {"y": "x"})})
    assert {key.domain for table in "olm" for key in found[table].keys} == {"o(a)"}


def test_reference_to_a_unit_column_is_a_unit_column() -> None:
    found = sources(
        {
            "customer": "c_custkey",
            "orders": ("customer", {"o_custkey": "c_custkey"}),
            "note": ("orders", {"n_custkey": "o_custkey"}),
            "lineitem": ("orders", {"l_orderkey": "o_orderkey"}),
        }
    )
    assert (found["orders"].column, found["orders"].within) == ("o_custkey", "customer")
    assert (found["note"].column, found["note"].within) == ("n_custkey", "orders")
    assert found["lineitem"].via == "orders"


def test_names_that_could_be_taken_for_others_are_quoted() -> None:
    one = sources({"o": "u", "l": ("o", {"x": "a, b"})})
    two = sources({"o": "u", "l": ("o", {"x": "a", "y": "b"})})
    assert one["o"].keys[0].domain == 'o("a, b")'
    assert two["o"].keys[0].domain == "o(a, b)"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"l": ("o", {"x": "a"})}, "there is no table o"),
        ({"o": None, "l": ("o", {"x": "a"})}, "o is public"),
        ({"l": ("l", {"x": "a"})}, "in a circle: l → l"),
        ({"a": ("b", {"x": "y"}), "b": ("c", {"x": "y"}), "c": ("b", {"x": "y"})}, "b → c → b"),
        ({"o": "u", "l": ("o", {"x": "a", "y": "a"})}, "names a column of o twice"),
        ({"o": "u", "l": ("o", {"x": "u", "y": "a"})}, "name it alone"),
    ],
)
def test_paths_that_lead_nowhere(declared: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve_units(declared)
