"""Contract terms: ODRL-shaped rules and a release section.

The JSON follows ODRL 2.2 (``permission``, ``prohibition``, ``obligation``, each with
``action`` and ``constraint``), as the Dataspace Protocol does, plus ``release`` and,
for contracts that allow named queries only, ``templates``.
Lists that are empty are left out, so that equal terms have equal bytes. Nobody
enforces obligations yet, so terms that hold one are refused rather than signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from luoshu.contracts.attestation import MAX_MEASUREMENTS, check_measurements
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.constraint import (
    Bounds,
    Constraint,
    LeftOperand,
    Operator,
    RegionPattern,
    bounds_of,
)
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields
from luoshu.contracts.ids import check_digest
from luoshu.contracts.release_terms import ReleaseMode, ReleaseScope, ReleaseTerms
from luoshu.contracts.templates import MAX_TEMPLATES, QueryTemplate, check_templates
from luoshu.contracts.times import format_time

__all__ = [
    "Action",
    "Bounds",
    "Constraint",
    "LeftOperand",
    "Operator",
    "RegionPattern",
    "ReleaseMode",
    "ReleaseScope",
    "ReleaseTerms",
    "Rule",
    "Terms",
    "simple_terms",
]

_MAX_RULES = 16
_MAX_CONSTRAINTS = 32


class Action(StrEnum):
    """What may be done with a product."""

    COMPUTE = "compute"


@dataclass(frozen=True, slots=True)
class Rule:
    """A permission or a prohibition: an action under constraints that all must hold."""

    action: Action
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if len(self.constraints) > _MAX_CONSTRAINTS:
            raise DocumentError(f"a rule has more than {_MAX_CONSTRAINTS} constraints")
        if len(set(self.constraints)) != len(self.constraints):
            raise DocumentError("a rule states a constraint twice")

    @property
    def bounds(self) -> Bounds:
        """How far the rule reaches."""
        return bounds_of(self.constraints)

    def to_payload(self) -> JsonObject:
        """The ODRL JSON form."""
        payload: JsonObject = {"action": self.action.value}
        if self.constraints:
            payload["constraint"] = [item.to_payload() for item in self.constraints]
        return payload

    @classmethod
    def from_payload(cls, value: JsonValue) -> Rule:
        """Reads the ODRL JSON form strictly.

        Raises:
            DocumentError: Ill-formed, or an unknown action.
        """
        fields = Fields(value, "rule", {"action"}, {"constraint"})
        constraints: tuple[Constraint, ...] = ()
        if "constraint" in fields:
            constraints = fields.array(
                "constraint", Constraint.from_payload, minimum=1, maximum=_MAX_CONSTRAINTS
            )
        return cls(fields.choice("action", Action), constraints)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a contract allows.

    A use is allowed if some permission covers it and no prohibition does. The
    accessors give the widest bound over all permissions, None for none: they serve
    display and rough checks; policy decides each use on the terms themselves.

    Attributes:
        permissions: At least one.
        release: What may leave the sandbox.
        prohibitions: These win over permissions.
        templates: The only queries that may be asked; empty allows any SQL.
        measurements: ``sha256:<hex>`` of the code under which alone may be computed; empty allows
            any. See `luoshu.contracts.attestation`.
    """

    permissions: tuple[Rule, ...]
    release: ReleaseTerms
    prohibitions: tuple[Rule, ...] = ()
    templates: tuple[QueryTemplate, ...] = ()
    measurements: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.permissions) <= _MAX_RULES or len(self.prohibitions) > _MAX_RULES:
            raise DocumentError(
                f"terms need 1 to {_MAX_RULES} permissions and at most {_MAX_RULES} prohibitions"
            )
        check_templates(self.templates)
        check_measurements(self.measurements)

    @property
    def purposes(self) -> frozenset[str] | None:
        """Purposes permitted by name."""
        named = [rule.bounds.purposes for rule in self.permissions]
        return _union(named)

    @property
    def regions(self) -> frozenset[str] | None:
        """Regions permitted by name."""
        named = [
            None if patterns is None else frozenset(pattern.code for pattern in patterns)
            for patterns in (rule.bounds.regions for rule in self.permissions)
        ]
        return _union(named)

    @property
    def uses(self) -> int | None:
        """Number of uses."""
        limits = [rule.bounds.uses for rule in self.permissions]
        known = [limit for limit in limits if limit is not None]
        return max(known) if len(known) == len(limits) else None

    @property
    def not_before(self) -> datetime | None:
        """First moment of use, inclusive."""
        times = [rule.bounds.not_before for rule in self.permissions]
        known = [time for time in times if time is not None]
        return min(known) if len(known) == len(times) else None

    @property
    def not_after(self) -> datetime | None:
        """Last moment of use, inclusive."""
        times = [rule.bounds.not_after for rule in self.permissions]
        known = [time for time in times if time is not None]
        return max(known) if len(known) == len(times) else None

    def stricter_or_equal(self, floor: ReleaseTerms) -> bool:
        """Whether the release section is no weaker than a product's floor."""
        return self.release.stricter_or_equal(floor)

    def to_payload(self) -> JsonObject:
        """The ODRL JSON form."""
        payload: JsonObject = {
            "permission": [rule.to_payload() for rule in self.permissions],
            "release": self.release.to_payload(),
        }
        if self.prohibitions:
            payload["prohibition"] = [rule.to_payload() for rule in self.prohibitions]
        if self.templates:
            payload["templates"] = [template.to_payload() for template in self.templates]
        if self.measurements:
            payload["measurements"] = list(self.measurements)
        return payload

    @classmethod
    def from_payload(cls, value: JsonValue) -> Terms:
        """Reads the ODRL JSON form strictly.

        Raises:
            DocumentError: Ill-formed; an unknown action, operand or operator; an
                obligation.
        """
        fields = Fields(
            value,
            "terms",
            {"permission", "release"},
            {"prohibition", "obligation", "templates", "measurements"},
        )
        if "obligation" in fields:
            raise fields.error(
                "obligation", "nothing enforces obligations yet, so they can't be agreed"
            )
        prohibitions: tuple[Rule, ...] = ()
        if "prohibition" in fields:
            prohibitions = fields.array(
                "prohibition", Rule.from_payload, minimum=1, maximum=_MAX_RULES
            )
        templates: tuple[QueryTemplate, ...] = ()
        if "templates" in fields:
            templates = fields.array(
                "templates", QueryTemplate.from_payload, minimum=1, maximum=MAX_TEMPLATES
            )
        measurements: tuple[str, ...] = ()
        if "measurements" in fields:
            measurements = fields.strings(
                "measurements", check_digest, minimum=1, maximum=MAX_MEASUREMENTS
            )
        return cls(
            fields.array("permission", Rule.from_payload, minimum=1, maximum=_MAX_RULES),
            ReleaseTerms.from_payload(fields.raw("release")),
            prohibitions,
            templates,
            measurements,
        )


def simple_terms(
    *,
    purposes: Sequence[str] = (),
    uses: int | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    regions: Sequence[str] = (),
    min_units: int,
    mode: ReleaseMode = ReleaseMode.AGGREGATE,
    jitter: int | None = None,
    dominance_ppm: int | None = None,
    scope: ReleaseScope | None = None,
    debits: int | None = None,
    templates: Sequence[QueryTemplate] = (),
    measurements: Sequence[str] = (),
) -> Terms:
    """Builds terms of one permission to compute; what isn't given isn't bounded.

    Args:
        purposes: Purposes permitted.
        uses: Number of uses.
        not_before: First moment, inclusive.
        not_after: Last moment, inclusive.
        regions: ISO 3166 codes; a country includes its parts.
        min_units: Threshold of distinct privacy units.
        mode: Release mode.
        jitter: See `ReleaseTerms`, as for the next three; None leaves the default.
        dominance_ppm: Parts per million.
        scope: What a result is compared with.
        debits: Before the contract is suspended.
        templates: The only queries that may be asked; none allows any SQL.
        measurements: Of the code under which alone may be computed; none allows any.

    Raises:
        DocumentError: A value is not fit for its constraint.
    """
    constraints: list[Constraint] = []
    if purposes:
        constraints.append(Constraint(LeftOperand.PURPOSE, Operator.IS_ANY_OF, tuple(purposes)))
    if not_before is not None:
        constraints.append(
            Constraint(LeftOperand.DATE_TIME, Operator.GTEQ, format_time(not_before))
        )
    if not_after is not None:
        constraints.append(Constraint(LeftOperand.DATE_TIME, Operator.LTEQ, format_time(not_after)))
    if uses is not None:
        constraints.append(Constraint(LeftOperand.COUNT, Operator.LTEQ, uses))
    if regions:
        constraints.append(Constraint(LeftOperand.REGION, Operator.IS_PART_OF, tuple(regions)))
    release = ReleaseTerms(mode, min_units, jitter, dominance_ppm, scope, debits)
    permission = Rule(Action.COMPUTE, tuple(constraints))
    return Terms(
        (permission,), release, templates=tuple(templates), measurements=tuple(measurements)
    )


def _union(sets: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    result: frozenset[str] = frozenset()
    for named in sets:
        if named is None:
            return None
        result |= named
    return result
