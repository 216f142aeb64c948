"""Arguments of aggregates as sums of monomials.

`l_extendedprice * (1 - l_discount)` is 1·price − 1·price·discount: what the release rules
decide on is each monomial's sum by itself, constants dropped; stage 2 puts the value
together again. A CASE gives branches, each with the condition under which a row is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import Atom, Role
from luoshu.sandbox.guard.text import constant_text, short_name
from luoshu.sandbox.guard.uses import check_condition
from luoshu.sandbox.schema import BOOLEAN, ValueType

MAX_BRANCHES = 32
MAX_TERMS = 64
MAX_DEGREE = 4
NUMBERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL", "DOUBLE"})
_HOW = (
    "Aggregates take columns declared `aggregate` and constants under +, − and ×, ÷ by a constant, "
    "and CASE."
)

Fold = Callable[[Expression], plan.Constant]


@dataclass(frozen=True, slots=True)
class Term:
    """A coefficient times a product of atoms."""

    coefficient: Fraction
    factors: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """Rows with some conditions, and what the argument is there.

    Attributes:
        conditions: All hold; together with the other branches' they exclude each other.
        terms: Their sum is the value; none is zero.
        atoms: The value is NULL where any of these is; a term is where any of its factors is.
    """

    conditions: tuple[Expression, ...]
    terms: tuple[Term, ...]
    atoms: tuple[Atom, ...]


def is_not_true(condition: Expression) -> Expression:
    """False or unknown: where CASE goes on to its next branch."""
    true = plan.Constant(True, BOOLEAN)
    return plan.Call("IS DISTINCT FROM", "COMPARE_DISTINCT_FROM", (condition, true), BOOLEAN)


def is_not_null(atom: Expression) -> Expression:
    """IS NOT NULL."""
    return plan.Call("OPERATOR_IS_NOT_NULL", "OPERATOR_IS_NOT_NULL", (atom,), BOOLEAN)


def present(atoms: Sequence[Atom]) -> list[Expression]:
    """IS NOT NULL for each atom that may be NULL; of a public one, a weight, it is always said."""
    return [is_not_null(atom) for atom in atoms if _may_be_null(atom)]


def _may_be_null(atom: Atom) -> bool:
    if atom.role is Role.UNIT:
        return atom.is_optional
    return atom.column is None or atom.column.is_nullable or atom.role is Role.PUBLIC


def may_be_null(argument: Expression, fold: Fold) -> bool:
    """Whether an argument that can be expanded may be NULL in some row, whatever the data is.

    A column may: what is accepted must not depend on whether somebody has no value.
    """
    if not any(True for _ in plan.leaves_of(argument)):
        return fold(argument).value is None
    match argument:
        case plan.Case():
            values = [*(then for _, then in argument.checks), argument.otherwise]
            return any(may_be_null(value, fold) for value in values)
        case plan.Call(kind="OPERATOR_COALESCE"):
            return all(may_be_null(child, fold) for child in argument.children)
        case plan.Call():
            return any(may_be_null(child, fold) for child in argument.children)
    return True


def expand(argument: Expression, fold: Fold) -> list[Branch]:
    """Expands an aggregate's argument.

    Args:
        argument: Over atoms.
        fold: Evaluates an expression without atoms.

    Returns:
        The branches in which it is not NULL.

    Raises:
        GuardRefusalError: It is no sum of monomials.
    """
    branches = _expand(argument, fold)
    if len(branches) > MAX_BRANCHES or sum(len(b.terms) for b in branches) > MAX_TERMS:
        raise refuse(Refusal.SIZE, "An aggregate's argument has too many terms; split it.")
    if any(len(term.factors) > MAX_DEGREE for branch in branches for term in branch.terms):
        raise refuse(Refusal.EXPRESSION, f"An aggregate multiplies more than {MAX_DEGREE} columns.")
    return branches


def _expand(node: Expression, fold: Fold) -> list[Branch]:
    if not any(True for _ in plan.leaves_of(node)):
        return _constant(fold(node))
    match node:
        case Atom():
            if node.type.name not in NUMBERS:
                raise _refused(f"a column of type {node.type}")
            return [Branch((), (Term(Fraction(1), (node,)),), (node,))]
        case plan.Case():
            return _case(node, fold)
        case plan.Call(kind="OPERATOR_COALESCE", children=(first, second)):
            return _coalesce(first, second, fold)
        case plan.Call(kind="OPERATOR_CAST", children=(child,)):
            return _cast(node, child, fold)
        case plan.Call(kind="BOUND_FUNCTION"):
            return _arithmetic(node, fold)
    what = f"the operator {shown(node.name)}" if isinstance(node, plan.Call) else "this expression"
    raise _refused(what)


def _constant(constant: plan.Constant) -> list[Branch]:
    if constant.value is None:
        return []
    if constant.type.name not in NUMBERS:
        raise _refused(f"a constant of type {constant.type}")
    value = _number(constant)
    return [Branch((), (Term(value, ()),) if value else (), ())]


_ZERO = [Branch((), (), ())]


def _number(constant: plan.Constant) -> Fraction:
    number = Decimal(constant_text(constant))
    if not number.is_finite():
        raise _refused("infinity or NaN")
    return Fraction(number)


def _case(node: plan.Case, fold: Fold) -> list[Branch]:
    found: list[Branch] = []
    passed: tuple[Expression, ...] = ()
    for when, then in node.checks:
        check_condition(when)
        for branch in _expand(then, fold):
            found.append(_under((*passed, when), branch))
        passed = (*passed, is_not_true(when))
    found += [_under(passed, branch) for branch in _expand(node.otherwise, fold)]
    return found


def _under(conditions: tuple[Expression, ...], branch: Branch) -> Branch:
    return Branch((*conditions, *branch.conditions), branch.terms, branch.atoms)


def _coalesce(first: Expression, second: Expression, fold: Fold) -> list[Branch]:
    atom = first
    while isinstance(atom, plan.Call) and atom.kind == "OPERATOR_CAST" and not atom.is_try:
        atom = atom.children[0]
    if not isinstance(atom, Atom):
        raise _refused("COALESCE of anything but a column and another value")
    if not any(True for _ in plan.leaves_of(second)) and _constant(fold(second)) == _ZERO:
        # Nothing to add up where it is NULL, and no row without a value.
        return [replace(branch, atoms=()) for branch in _expand(first, fold)]
    is_null = plan.Call("OPERATOR_IS_NULL", "OPERATOR_IS_NULL", (atom,), BOOLEAN)
    return [*_expand(first, fold), *(_under((is_null,), each) for each in _expand(second, fold))]


def _cast(node: plan.Call, child: Expression, fold: Fold) -> list[Branch]:
    source, target = child.type, node.type
    if source == BOOLEAN and target.name in NUMBERS:
        true = Branch((child,), (Term(Fraction(1), ()),), ())
        false = plan.Call("OPERATOR_NOT", "OPERATOR_NOT", (child,), BOOLEAN)
        return [true, Branch((false,), (), ())]
    if source.name in NUMBERS and widens(source, target):
        return _expand(child, fold)
    raise _refused(f"a cast to {target}, which can change values or fail,")


def widens(source: ValueType, target: ValueType) -> bool:
    """Whether each value of a number type has the same value in another.

    A DOUBLE counts as wide enough: what is added up stays exact, and only the end is rounded.
    """
    order = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
    digits = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}
    if target.name == "DOUBLE":
        return True
    if source.name in order and target.name in order:
        return order.index(source.name) <= order.index(target.name)
    if target.name == "DECIMAL":
        whole = target.width - target.scale
        if source.name == "DECIMAL":
            return source.scale <= target.scale and source.width - source.scale <= whole
        return digits.get(source.name, 99) <= whole
    return False


def _arithmetic(node: plan.Call, fold: Fold) -> list[Branch]:
    name, parts = short_name(node.name), node.children
    if name in {"+", "-"} and len(parts) == 1:
        return _scaled(_expand(parts[0], fold), Fraction(-1 if name == "-" else 1))
    if name in {"+", "-", "*"} and len(parts) == 2:
        left, right = (_expand(part, fold) for part in parts)
        if name == "-":
            right = _scaled(right, Fraction(-1))
        return [_combined(one, other, name) for one in left for other in right]
    if name == "/" and len(parts) == 2:
        if any(True for _ in plan.leaves_of(parts[1])):
            raise _refused("a division by anything but a constant")
        divisor = fold(parts[1])
        if divisor.value is None or not (value := _number(divisor)):
            raise _refused("a division by zero or NULL")
        return _scaled(_expand(parts[0], fold), 1 / value)
    raise _refused(f"the function or operator {shown(name)}")


def _scaled(branches: Sequence[Branch], factor: Fraction) -> list[Branch]:
    return [
        Branch(
            b.conditions, tuple(Term(t.coefficient * factor, t.factors) for t in b.terms), b.atoms
        )
        for b in branches
    ]


def _combined(one: Branch, other: Branch, name: str) -> Branch:
    if name == "*":
        products = [
            Term(left.coefficient * right.coefficient, (*left.factors, *right.factors))
            for left in one.terms
            for right in other.terms
        ]
    else:
        products = [*one.terms, *other.terms]
    sums: dict[frozenset[tuple[int, int]], Term] = {}
    for term in products:
        counted: dict[int, int] = {}
        for factor in term.factors:
            counted[id(factor)] = counted.get(id(factor), 0) + 1
        key = frozenset(counted.items())
        before = sums[key].coefficient if key in sums else Fraction(0)
        sums[key] = Term(before + term.coefficient, term.factors)
    atoms = tuple(dict.fromkeys((*one.atoms, *other.atoms)))
    terms = tuple(term for term in sums.values() if term.coefficient)
    return Branch((*one.conditions, *other.conditions), terms, atoms)


def _refused(what: str) -> Exception:
    return refuse(Refusal.EXPRESSION, f"In an aggregate, {what} is not accepted. {_HOW}")
