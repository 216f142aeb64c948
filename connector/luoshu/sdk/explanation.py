"""What a computation would cost, as the holder says before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from luoshu.contracts.canonical import JsonObject, JsonValue, parse_object
from luoshu.contracts.errors import ContractsError
from luoshu.sdk.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Amount:
    """Privacy, as it is accounted: ε alone, or ρ and the δ of thresholds.

    Attributes:
        epsilon: Pure ε; None where costs add up as ρ.
        rho: Of zero-concentrated differential privacy; None where they add up as ε.
        delta: What groups without declared keys cost; None beside ε.
    """

    epsilon: Decimal | None = None
    rho: Decimal | None = None
    delta: Decimal | None = None

    def __str__(self) -> str:
        """For people."""
        if self.epsilon is not None:
            return f"epsilon {self.epsilon:f}"
        return f"rho {self.rho:f}, delta {self.delta:f}"


@dataclass(frozen=True, slots=True)
class Pot:
    """A budget, or a quota within it.

    Attributes:
        epsilon, delta: The guarantee that everything paid from it keeps.
        remaining: What is left.
    """

    epsilon: Decimal
    delta: Decimal
    remaining: Amount


@dataclass(frozen=True, slots=True)
class Noise:
    """What to expect of one released quantity.

    Attributes:
        what: `rows`, `units`, or a sum.
        deviation: Standard deviation of its noise, in its own unit.
        threshold: About the noisy count that a group needs to come out; 0 where all come out.
    """

    what: str
    deviation: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the holder says. It is not signed: nothing was done that could be proved.

    Attributes:
        mode: The release mode.
        uses_left: Computations left under the contract; None if they aren't limited.
        cost: What this one costs; None outside of mode ``dp``.
        affords: How many like it can still be paid for; None outside of mode ``dp``.
        budgets: Of the people in the data; each must pay.
        quota: The contract's, if it has one.
        noise: Of each released quantity; an average is two, a variance three.
        notes: Names of what is said with a result; see `luoshu.contracts.release_notes`.
        document: All of it, as the holder sent it.
    """

    mode: str
    uses_left: int | None
    cost: Amount | None
    affords: int | None
    budgets: tuple[Pot, ...]
    quota: Pot | None
    noise: tuple[Noise, ...]
    notes: tuple[str, ...]
    document: JsonObject


def read_explanation(data: bytes) -> Explanation:
    """Reads what a holder answered.

    Raises:
        VerificationError: It isn't an explanation.
    """
    try:
        document = parse_object(data)
        privacy = document.get("privacy")
        found = privacy if isinstance(privacy, dict) else {}
        quota = found.get("quota")
        return Explanation(
            mode=str(document["mode"]),
            uses_left=_count(document["uses_left"]),
            cost=_amount(found["cost"]) if found.get("cost") else None,
            affords=_count(found.get("affords")),
            budgets=tuple(_pot(each) for each in _list(found.get("budgets", []))),
            quota=None if quota is None else _pot(quota),
            noise=tuple(_noise(each) for each in _list(found.get("noise", []))),
            notes=tuple(str(note) for note in _list(document.get("notes", []))),
            document=document,
        )
    except (ContractsError, LookupError, TypeError, ValueError, ArithmeticError):
        raise VerificationError("The holder's explanation can't be read.") from None


def _pot(value: JsonValue) -> Pot:
    pot = _object(value)
    limit = _object(pot["limit"])
    return Pot(
        Decimal(str(limit["epsilon"])), Decimal(str(limit["delta"])), _amount(pot["remaining"])
    )


def _amount(value: JsonValue) -> Amount:
    return Amount(**{name: Decimal(str(number)) for name, number in _object(value).items()})


def _noise(value: JsonValue) -> Noise:
    noise = _object(value)
    return Noise(str(noise["what"]), float(str(noise["deviation"])), float(str(noise["threshold"])))


def _object(value: JsonValue) -> JsonObject:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _list(value: JsonValue) -> list[JsonValue]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _count(value: JsonValue) -> int | None:
    if value is not None and not isinstance(value, int):
        raise TypeError
    return value
