"""From contract terms and facts to the input that a policy decides on.

The input holds everything the decision depends on, the time and the meters included, and
nothing else: no SQL of the analyst's, no user's name, no value of the data. It is kept beside
the usage log, so its size is bounded.

Terms go in as they were signed, with one change: a time in a ``dateTime`` constraint becomes
an integer, milliseconds since 1970-01-01T00:00:00Z, since policies have no built-in to read
times. A time that can't be read stays a text, which the policy then refuses to compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from luoshu.contracts.canonical import JsonObject, JsonValue, canonicalize
from luoshu.contracts.errors import CanonicalError, DocumentError
from luoshu.contracts.times import parse_time, require_utc
from luoshu.policies.engine import PoliciesError

INPUT_SCHEMA: Final = "luoshu/decision-input/v1"

MAX_INPUT_BYTES: Final = 256 << 10
"""Largest canonical input, in bytes."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DecisionInputError(PoliciesError):
    """The facts can't be put into a decision input; nothing may be decided on them."""

    reason = "MALFORMED_MESSAGE"


class UseRequest(Protocol):
    """What is asked: the part of a signed computation request that policies see."""

    @property
    def id(self) -> str:
        """The request's id."""
        ...

    @property
    def contract_id(self) -> str:
        """The contract it is made under."""
        ...

    @property
    def action(self) -> str:
        """An action of the contract's vocabulary, such as ``compute``."""
        ...

    @property
    def purpose(self) -> str:
        """The declared purpose."""
        ...


@dataclass(frozen=True, slots=True)
class Party:
    """A participant as policies see it.

    Attributes:
        id: Participant id.
        jurisdiction: From its membership credential; codes nest by hyphens (``CN-HA``).
    """

    id: str
    jurisdiction: str


@dataclass(frozen=True, slots=True)
class Product:
    """A data product as policies see it.

    Attributes:
        id: Product id.
        version: Version of the catalog entry that the agreement names.
        classification: ``level``, ``personal_information`` and ``subjects`` of that entry.
    """

    id: str
    version: int
    classification: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Meters:
    """What has been used so far.

    Attributes:
        uses: Uses debited before this one.
    """

    uses: int


def build_input(
    *,
    now: datetime,
    request: UseRequest,
    terms: JsonObject,
    agreement_state: str,
    meters: Meters,
    consumer: Party,
    provider: Party,
    product: Product,
) -> JsonObject:
    """Builds the decision input.

    Args:
        now: The provider's time, aware UTC; cut down to milliseconds.
        request: The verified request.
        terms: The agreement's terms in their signed JSON form (ODRL keys).
        agreement_state: Name of the agreement's state, such as ``ACTIVE``.
        meters: Uses so far.
        consumer: Who asks.
        provider: Who decides.
        product: What is asked about.

    Returns:
        A JSON object that shares nothing with the arguments.

    Raises:
        DecisionInputError: If the input is larger than 256 KiB or has no canonical form.
        ValueError: If ``now`` is not aware UTC.
    """
    decision_input: JsonObject = {
        "schema": INPUT_SCHEMA,
        "now_ms": _milliseconds(require_utc(now)),
        "request": {
            "id": request.id,
            "contract": request.contract_id,
            "action": request.action,
            "purpose": request.purpose,
        },
        "terms": {key: _with_integer_times(value) for key, value in terms.items()},
        "agreement": {"state": agreement_state},
        "meters": {"uses": meters.uses},
        "consumer": {"id": consumer.id, "jurisdiction": consumer.jurisdiction},
        "provider": {"id": provider.id, "jurisdiction": provider.jurisdiction},
        "product": {
            "id": product.id,
            "version": product.version,
            "classification": dict(product.classification),
        },
    }
    try:
        size = len(canonicalize(decision_input))
    except CanonicalError as error:
        raise DecisionInputError(f"The use can't be decided: {error.message}.") from error
    if size > MAX_INPUT_BYTES:
        raise DecisionInputError(
            f"The use can't be decided: its terms need {size} bytes and {MAX_INPUT_BYTES} are "
            "allowed. Negotiate a contract with shorter terms."
        )
    return decision_input


def _with_integer_times(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_with_integer_times(item) for item in value]
    if isinstance(value, dict):
        copy = {key: _with_integer_times(item) for key, item in value.items()}
        if copy.get("leftOperand") == "dateTime" and "rightOperand" in copy:
            copy["rightOperand"] = _times(copy["rightOperand"])
        return copy
    return value


def _times(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_times(item) for item in value]
    if isinstance(value, str):
        try:
            return _milliseconds(parse_time(value))
        except DocumentError:
            return value
    # A number here was never a signed time; as a text the policy can't take it for one.
    return f"not a time: {value}"


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
