"""What a cell may release by itself, whatever else comes out.

For every component of every cell, grouped or not:

- *threshold*: distinct units with a contribution that isn't 0, at least `min_units` plus a jitter
  of 0 to `jitter` that depends on the domain's secret and the cell's units alone: asking again
  gives the same, and nobody can tell at which number a cell appears;
- *dominance*: no unit contributes more than a share of the sum of absolute contributions;
- *bound*: a sum that equals its number of rows times a declared bound tells every row's value;
- *weights*: a sum with numbers of a public table as factors is judged by their digits
  (`release.weights`), and comes out only where the plain sum of the same rows could.

Further, a component of kind SET with fewer units than the threshold withholds its whole cell,
also one with none: else whether somebody is in it could be told; and the cells of one prefix
come out all or not at all.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.fingerprints import derived
from luoshu.sandbox.release.results import CellQueryResult, Figures, cell_starts, counted, figures
from luoshu.sandbox.release.weights import tell_few
from luoshu.sandbox.schema import ComponentKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.results import Longs

    Verdicts: TypeAlias = NDArray[np.bool_]


class Rule(StrEnum):
    """Why something was withheld; for the holder's eyes."""

    THRESHOLD = "threshold"
    DOMINANCE = "dominance"
    BOUND = "bound"
    WEIGHTS = "weights"
    SET = "set"
    PREFIX = "prefix"
    RESULT = "difference-within-result"
    HISTORY = "difference-to-history"
    CONFLICTS = "too-many-conflicts"


@dataclass(frozen=True, slots=True)
class Withheld:
    """One component of one cell that stays in; for the holder's eyes.

    Attributes:
        component: Its index, or None if the rule is about the whole cell.
        cell: The cell's number.
        rule: The first rule that withheld it.
        needed: Fewest units that the rule asks for, if it is about that.
        units: How many there are, where the component doesn't say it.
        beside: What it differs too little from in this computation: number of the cell query,
            cell and component of each.
        earlier: Places of the earlier results that it differs too little from, the oldest is 0.
    """

    component: int | None
    cell: int
    rule: Rule
    needed: int | None = None
    units: int | None = None
    beside: tuple[tuple[int, int, int], ...] = ()
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A result with its figures and what each cell may release by itself.

    Attributes:
        starts: See `results.cell_starts`.
        figures: For each component.
        allowed: By component and cell; False throughout for components of kind SET.
        withheld: What isn't allowed, and why.
    """

    result: CellQueryResult
    starts: Longs
    figures: tuple[Figures, ...]
    allowed: Verdicts
    withheld: list[Withheld]


def judge(
    result: CellQueryResult, *, min_units: int, jitter: int, dominance_ppm: int, secret: bytes
) -> Judged:
    """Applies the rules that look at one cell, prefixes apart."""
    components, starts = result.schema.components, cell_starts(result.found)
    found = tuple(
        figures(counted(component, value), starts, dominance_ppm)
        for component, value in zip(components, result.found.values, strict=True)
    )
    needed = _needed(result, starts, min_units, jitter, secret)
    allowed = np.zeros((len(components), result.found.cells), np.bool_)
    withheld: list[Withheld] = []
    for number, component in enumerate(components):
        if not component.kind.is_released:
            continue
        few = found[number].units < needed
        dominated = found[number].dominated & ~few
        tells = _equals_bound(result, found, number) & ~few & ~dominated
        allowed[number] = ~(few | dominated | tells)
        for rule, cells in (
            (Rule.THRESHOLD, few),
            (Rule.DOMINANCE, dominated),
            (Rule.BOUND, tells),
        ):
            withheld += [
                Withheld(number, cell, rule, needed=_asked(rule, needed, cell))
                for cell in np.flatnonzero(cells).tolist()
            ]
    withheld += _judge_weights(result, starts, needed, allowed)
    for number, component in enumerate(components):
        if component.kind is ComponentKind.SET:
            units = found[number].units
            small = units < needed
            allowed[:, small] = False
            withheld += [
                Withheld(None, cell, Rule.SET, int(needed[cell]), int(units[cell]))
                for cell in np.flatnonzero(small).tolist()
            ]
    return Judged(result, starts, found, allowed, withheld)


def _asked(rule: Rule, needed: Longs, cell: int) -> int | None:
    return int(needed[cell]) if rule is Rule.THRESHOLD else None


def _judge_weights(
    result: CellQueryResult, starts: Longs, needed: Longs, allowed: Verdicts
) -> list[Withheld]:
    """Withholds sums whose weights tell too much; those of the same rows are judged together."""
    values = result.found.values
    together: dict[int, list[int]] = {}
    for number, component in enumerate(result.schema.components):
        if component.digits is not None:
            together.setdefault(component.digits.plain, []).append(number)
    withheld = []
    for numbers in together.values():
        digits = [d for n in numbers if (d := result.schema.components[n].digits) is not None]
        masks = [(values[each.any].hi, values[each.all].hi) for each in digits]
        few = tell_few(masks, starts, needed, np.asarray(allowed[numbers].any(axis=0)))
        for number in numbers:
            cells = np.flatnonzero(few & allowed[number])
            withheld += [
                Withheld(number, cell, Rule.WEIGHTS, int(needed[cell])) for cell in cells.tolist()
            ]
            allowed[number] &= ~few
    return withheld


def withhold_weighted(result: CellQueryResult, allowed: Verdicts) -> list[Withheld]:
    """Withholds each sum with weights whose plain sum is withheld.

    Args:
        result: Whose schema says which.
        allowed: By component and cell; changed in place.
    """
    withheld = []
    for number, component in enumerate(result.schema.components):
        if component.digits is not None:
            lost = allowed[number] & ~allowed[component.digits.plain]
            withheld += [Withheld(number, int(c), Rule.WEIGHTS) for c in np.flatnonzero(lost)]
            allowed[number] &= ~lost
    return withheld


def _needed(
    result: CellQueryResult, starts: Longs, min_units: int, jitter: int, secret: bytes
) -> Longs:
    """Fewest units that each cell needs."""
    cells = result.found.cells
    needed = np.full(cells, min_units, np.int64)
    if jitter:
        draw = _jitter(derived(secret, "jitter"), jitter)
        data = memoryview(result.found.unit.astype("<i4", copy=False).tobytes())
        places = (starts * 4).tolist()
        needed += np.fromiter(
            (draw(data[places[cell] : places[cell + 1]]) for cell in range(cells)),
            np.int64,
            cells,
        )
    return needed


def _jitter(key: bytes, jitter: int) -> Callable[[memoryview], int]:
    def draw(units: memoryview) -> int:
        # 64 bits modulo a small number: the bias is below 2^-50.
        return int.from_bytes(hmac.digest(key, units, hashlib.sha256)[:8], "big") % (jitter + 1)

    return draw


def _equals_bound(result: CellQueryResult, found: tuple[Figures, ...], number: int) -> Verdicts:
    component = result.schema.components[number]
    equal = np.zeros(result.found.cells, np.bool_)
    if component.bounds is None or component.rows is None:
        return equal
    for cell, (total, rows) in enumerate(
        zip(found[number].totals, found[component.rows].totals, strict=True)
    ):
        equal[cell] = any(total == rows * bound for bound in component.bounds)
    return equal


def withhold_prefixes(result: CellQueryResult, allowed: Verdicts) -> list[int]:
    """Withholds every cell whose prefix has a cell with anything withheld.

    Args:
        result: Whose schema may name a prefix.
        allowed: By component and cell; changed in place.

    Returns:
        The cells that had something left to withhold.
    """
    prefix = result.schema.prefix
    if prefix is None:
        return []
    released = [c.kind.is_released for c in result.schema.components]
    whole = np.asarray(allowed[released].all(axis=0)).tolist()
    names = [tuple(keys[:prefix]) for keys in result.keys]
    broken = {name for name, complete in zip(names, whole, strict=True) if not complete}
    cells = [cell for cell, name in enumerate(names) if name in broken and allowed[:, cell].any()]
    allowed[:, cells] = False
    return cells
