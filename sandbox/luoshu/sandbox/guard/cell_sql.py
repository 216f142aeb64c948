"""The text of a cell query: keys, the unit, and what each unit contributes to each component."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.monomials import all_of
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.sources import Atom, Relation, Scope, aggregate_sql
from luoshu.sandbox.guard.text import stored
from luoshu.sandbox.schema import ComponentKind


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """Rows of a cell query: all of them, or those of one arm of UNION ALL.

    Attributes:
        rows: The rows.
        keys: What they are grouped by, over the rows' atoms.
    """

    rows: Relation
    keys: tuple[Expression, ...]

    @property
    def unit(self) -> Atom:
        """The privacy unit of each row."""
        unit = self.rows.unit
        assert unit is not None  # noqa: S101 - cells are over protected rows
        return unit


@dataclass(frozen=True, slots=True)
class _Component:
    """What one column adds up.

    Attributes:
        kind: What it is to the release rules.
        calls: By arm, the aggregate over the arm's atoms.
        texts: The same as SQL, to know it again.
    """

    kind: ComponentKind
    calls: Mapping[int, plan.Aggregate]
    texts: Mapping[int, str]


@dataclass(slots=True)
class CellSql:
    """Collects the components of one cell query, each once, and writes it.

    Attributes:
        arms: Its rows.
        simplified: Replaces what has no columns by literals.
    """

    arms: Sequence[Arm]
    simplified: Callable[[Expression], Expression]
    scope: Scope = field(init=False)
    _components: list[_Component] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scope = Scope(self.simplified)

    @property
    def kinds(self) -> tuple[ComponentKind, ...]:
        """Of each component."""
        return tuple(component.kind for component in self._components)

    def place(self, calls: Mapping[int, plan.Aggregate], kind: ComponentKind) -> tuple[int, bool]:
        """The number of a component, and whether it is new.

        Args:
            calls: By arm, the aggregate that adds it up; arms that aren't there have no row in it.
            kind: What it is to the release rules.
        """
        texts = {arm: aggregate_sql(call, self.scope) for arm, call in calls.items()}
        for number, known in enumerate(self._components):
            if (known.kind, known.texts) == (kind, texts):
                return number, False
        self._components.append(_Component(kind, calls, texts))
        return len(self._components) - 1, True

    def statement(self) -> str:
        """Stage 1; puts out k0…, u, a0…."""
        if len(self.arms) == 1:
            return self.scope.statement(self._plain(self.arms[0]))
        arms = " UNION ALL ".join(self._rows(number) for number in range(len(self.arms)))
        keys = [f"s.k{n}" for n in range(len(self.arms[0].keys))]
        values = (self._value(number) for number in range(len(self._components)))
        return self.scope.statement(
            f"SELECT {', '.join([*keys, 's.u', *values])} FROM ({arms}) AS s "
            f"GROUP BY {', '.join([*keys, 's.u'])}"
        )

    def _plain(self, arm: Arm) -> str:
        sql = self.scope.sql
        keys = [stored(sql(key), key.type) for key in arm.keys]
        columns = [f"{key} AS k{n}" for n, key in enumerate(keys)]
        columns.append(f"{sql(arm.unit)} AS u")
        for number, component in enumerate(self._components):
            columns.append(_contribution(component.calls[0], component.texts[0], number))
        groups = ", ".join([*keys, sql(arm.unit)])
        return f"SELECT {', '.join(columns)} {self._from(arm)} GROUP BY {groups}"

    def _from(self, arm: Arm) -> str:
        where = " AND ".join(self.scope.sql(condition) for condition in arm.rows.where)
        return f"FROM {arm.rows.source.render(self.scope)}" + (f" WHERE {where}" if where else "")

    def _rows(self, number: int) -> str:
        """One arm's rows: what any component adds up of them, and by which conditions."""
        arm, sql = self.arms[number], self.scope.sql
        columns = [f"{stored(sql(key), key.type)} AS k{n}" for n, key in enumerate(arm.keys)]
        columns += [f"{sql(arm.unit)} AS u", f"CAST('{number}' AS BIGINT) AS arm"]
        for place, component in enumerate(self._components):
            call = component.calls.get(number)
            if any(each.filter is not None for each in component.calls.values()):
                condition = (
                    "CAST(NULL AS BOOLEAN)"
                    if call is None
                    else "CAST('true' AS BOOLEAN)"
                    if call.filter is None
                    else sql(call.filter)
                )
                columns.append(f"{condition} AS f{place}")
            for argument in next(iter(component.calls.values())).children:
                value = f"CAST(NULL AS {argument.type})" if call is None else sql(call.children[0])
                columns.append(f"{value} AS v{place}")
        return f"SELECT {', '.join(columns)} {self._from(arm)}"

    def _value(self, number: int) -> str:
        calls = self._components[number].calls
        conditions = []
        if len(calls) < len(self.arms):
            (arm,) = calls
            conditions.append(f"s.arm = CAST('{arm}' AS BIGINT)")
        if any(call.filter is not None for call in calls.values()):
            conditions.append(f"s.f{number}")
        call = next(iter(calls.values()))
        text = "count(*)" if not call.children else f"sum(s.v{number})"
        text += f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""
        return _contribution(call, text, number)


def _contribution(call: plan.Aggregate, text: str, number: int) -> str:
    if not call.children:
        return f"{text} AS a{number}"
    nothing = "-1" if call.name == "system.main.bit_and" else "0"
    return f"coalesce({text}, CAST('{nothing}' AS {call.type})) AS a{number}"


def filtered_by(conditions: Sequence[Expression], scope: Scope) -> Expression | None:
    """AND of conditions, each once; None of none."""
    return all_of(list({scope.sql(condition): condition for condition in conditions}.values()))
