"""Why something was withheld, in words for the holder who tries a query."""

from __future__ import annotations

from luoshu.sandbox.answers import Withholding
from luoshu.sandbox.rules import MAX_CONFLICTS, ReleaseRules
from luoshu.sandbox.wire import Row

_SHOWN = 4
_PPM = 1_000_000


def why(withheld: Withholding, rules: ReleaseRules) -> str:
    """One sentence on what withheld it. It may name keys of groups that were withheld.

    Args:
        withheld: A value or a whole group.
        rules: In force.
    """
    needed, units = withheld.needed, withheld.units or 0
    match withheld.rule:
        case "threshold":
            return f"{_units(units)} contribute; this group needs {needed}"
        case "dominance":
            return f"one unit has more than {rules.dominance_ppm / _PPM:.0%} of it"
        case "bound":
            return "it equals its rows times a declared bound, and so tells every row's value"
        case "weights":
            if needed is None:
                return "the same sum without the public column is withheld"
            return (
                "with the public column's numbers as weights it tells about fewer than "
                f"{needed} units"
            )
        case "set":
            return (
                f"a branch of OR, CASE or FILTER has {_units(units)}; each needs {needed} by itself"
            )
        case "prefix":
            return "COUNT(DISTINCT …) comes out with all of its values, and one has too few units"
        case "difference-within-result":
            return f"it differs in fewer than {needed} units from {_beside(withheld)}"
        case "difference-to-history":
            return f"it differs in fewer than {needed} units from {_earlier(withheld.earlier)}"
        case "too-many-conflicts":
            return (
                f"more than {MAX_CONFLICTS} groups differ too little from earlier results, so "
                "nothing comes out"
            )
    return withheld.rule


def shown(keys: Row) -> str:
    """A group's keys."""
    return ", ".join("NULL" if key is None else str(key) for key in keys) or "all rows"


def _units(count: int) -> str:
    return "1 unit" if count == 1 else f"{count} units"


def _beside(withheld: Withholding) -> str:
    places = [f"{quantity} of {shown(keys)}" for keys, quantity in withheld.beside]
    more = len(places) - _SHOWN
    listed = " + ".join(places[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{listed}, which came out" if listed else "what else came out"


def _earlier(places: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, places[:_SHOWN])) + (" and more" if len(places) > _SHOWN else "")
    return f"earlier result {listed}" if len(places) == 1 else f"earlier results {listed}"
