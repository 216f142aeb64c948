"""A user's signed wish to compute under a contract."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.documents import COMPUTATION_REQUEST
from luoshu.contracts.envelope import Envelope, sign, verify
from luoshu.contracts.errors import ContractsError, DocumentError, RequestError
from luoshu.contracts.fields import Fields, check_token
from luoshu.contracts.keys import SigningKey
from luoshu.contracts.membership import UserCredential
from luoshu.contracts.templates import TemplateCall
from luoshu.contracts.terms import Action
from luoshu.contracts.times import MAX_SKEW, format_time

MAX_SQL_BYTES = 64 << 10
REQUEST_MAX_AGE = timedelta(minutes=5)
"""How long after it was issued a request may still be decided."""


@dataclass(frozen=True, slots=True)
class ComputationRequest:
    """What a user asks to have computed.

    Attributes:
        id: Random; debits once however often it is sent.
        contract_id: The contract it is made under, and no other.
        user_id: The user that signs it.
        action: ``compute``.
        purpose: What the result is for, a term of the contract's vocabulary.
        sql: The query, at most 64 KiB of UTF-8; None if `template` names it.
        issued_at: When it was signed.
        template: Under a contract of templates: which one, with which values.
    """

    id: str
    contract_id: str
    user_id: str
    purpose: str
    sql: str | None
    issued_at: datetime
    action: Action = Action.COMPUTE
    template: TemplateCall | None = None

    def __post_init__(self) -> None:
        ids.check_request_id(self.id)
        ids.check_contract_id(self.contract_id)
        ids.parse_user_id(self.user_id)
        check_token(self.purpose)
        if (self.sql is None) == (self.template is None):
            raise DocumentError("a request has either sql or template")
        if self.sql is not None:
            _check_sql(self.sql)

    def to_payload(self) -> JsonObject:
        """The JSON form that the user signs."""
        payload: JsonObject = {
            "schema": COMPUTATION_REQUEST.schema,
            "id": self.id,
            "contract_id": self.contract_id,
            "user_id": self.user_id,
            "action": self.action.value,
            "purpose": self.purpose,
            "issued_at": format_time(self.issued_at),
        }
        if self.sql is not None:
            payload["sql"] = self.sql
        if self.template is not None:
            payload["template"] = self.template.to_payload()
        return payload

    @classmethod
    def from_payload(cls, value: JsonObject) -> ComputationRequest:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, or of another schema.
        """
        COMPUTATION_REQUEST.check_schema(value)
        fields = Fields(
            value,
            COMPUTATION_REQUEST.name,
            {"schema", "id", "contract_id", "user_id", "action", "purpose", "issued_at"},
            {"sql", "template"},
        )
        call = TemplateCall.from_payload(fields.raw("template")) if "template" in fields else None
        return cls(
            id=fields.string("id"),
            contract_id=fields.string("contract_id"),
            user_id=fields.string("user_id"),
            action=fields.choice("action", Action),
            purpose=fields.string("purpose"),
            sql=fields.string("sql") if "sql" in fields else None,
            issued_at=fields.time("issued_at"),
            template=call,
        )

    def sign(self, request_key: SigningKey) -> Envelope:
        """Signs with the user's request key."""
        return sign(self.to_payload(), COMPUTATION_REQUEST.payload_type, request_key)


def verify_request(envelope: Envelope, user: UserCredential, now: datetime) -> ComputationRequest:
    """Verifies a request against the credential of the user that should have signed it.

    Args:
        envelope: What arrived.
        user: The user's credential, verified before against its member.
        now: Time of the decision.

    Raises:
        RequestError: Not signed by the user's request key, ill-formed
            (``MALFORMED_MESSAGE``), about another user, or issued more than 60 s in
            the future or 5 minutes in the past (``REQUEST_TIME_SKEW``).
    """
    try:
        payload = verify(envelope, COMPUTATION_REQUEST.payload_type, [user.request_key])
        request = ComputationRequest.from_payload(payload)
    except ContractsError as error:
        reason = None if error.reason == "SIGNATURE_INVALID" else error.reason
        raise RequestError(error.message, reason=reason) from None
    if request.user_id != user.user_id:
        raise RequestError("a request names another user than the one whose key signed it")
    if not -MAX_SKEW <= now - request.issued_at <= REQUEST_MAX_AGE:
        raise RequestError(
            "a request is too old or from the future: check this machine's clock and send it anew",
            reason="REQUEST_TIME_SKEW",
        )
    return request


def _check_sql(sql: str) -> None:
    try:
        size = len(sql.encode("utf-8"))
    except UnicodeEncodeError:
        raise DocumentError("sql is not valid Unicode") from None
    if size > MAX_SQL_BYTES:
        raise DocumentError(
            f"sql is {size} bytes and {MAX_SQL_BYTES} are allowed", reason="MESSAGE_TOO_LARGE"
        )
    if not sql.strip() or "\0" in sql:
        raise DocumentError("sql is empty or holds a NUL character")
