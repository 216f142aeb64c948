"""A small space with fixed keys, for tests of the ground floor.

Everything is deterministic: keys come from seeds, ids from names, times are given.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from luoshu.contracts import ids
from luoshu.contracts.contract import (
    AgreeBody,
    ConfirmBody,
    ContractEvent,
    ContractState,
    EmptyBody,
    EventType,
    OfferBody,
    ReasonBody,
    RequestBody,
    SequencedEvent,
    UseBody,
    apply,
    check_submission,
    draft_event,
    sequence,
)
from luoshu.contracts.contract.bodies import Body
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership import (
    Endpoints,
    MembershipCredential,
    Role,
    SpaceTrust,
    UserCredential,
    UserRole,
)
from luoshu.contracts.offer import AnswerMode, Limits, Offer
from luoshu.contracts.product import (
    CatalogEntry,
    Classification,
    ClassificationLevel,
    Column,
    ColumnUse,
    DeliveryForm,
    PersonalInformation,
    QualityGrade,
)
from luoshu.contracts.request import ComputationRequest
from luoshu.contracts.terms import Terms, simple_terms

SPACE = "harbour"
NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
YEAR = timedelta(days=365)
MATERIAL = Path(__file__).parent.parent / "golden" / "material"
ENTRY_DIGEST = f"sha256:{'e' * 64}"


def key(owner: str, use: KeyUse) -> SigningKey:
    """The fixed key of an owner for a use."""
    return SigningKey.from_seed(hashlib.sha256(f"{owner}/{use}".encode()).digest(), use)


def uuid(name: str) -> UUID:
    """A fixed version 4 UUID."""
    return UUID(bytes=hashlib.sha256(name.encode()).digest()[:16], version=4)


AUTHORITY = key("authority", KeyUse.AUTHORITY)


@dataclass(frozen=True)
class Member:
    """A participant with all its keys."""

    name: str
    roles: tuple[Role, ...]

    @property
    def id(self) -> str:
        return ids.participant_id(SPACE, self.name)

    def key(self, use: KeyUse) -> SigningKey:
        return key(self.name, use)

    @property
    def events(self) -> SigningKey:
        return self.key(KeyUse.EVENTS)

    def credential(self, **changes: object) -> MembershipCredential:
        uses = [KeyUse.EVENTS, KeyUse.LOG, KeyUse.WITNESS]
        if Role.OPERATOR in self.roles:
            uses.append(KeyUse.STATUS)
        fields: dict[str, object] = {
            "space": SPACE,
            "participant_id": self.id,
            "name": LocalizedText(self.name.title(), "成员"),
            "roles": self.roles,
            "jurisdiction": "CN",
            "keys": (*(self.key(use).public for use in uses), PublicKey.tls(self.name.encode())),
            "endpoints": Endpoints(f"{self.name}.example:7443"),
            "not_before": NOW - YEAR,
            "not_after": NOW + YEAR,
            "serial": 1,
        }
        return MembershipCredential(**{**fields, **changes})  # type: ignore[arg-type]


OPERATOR = Member("operator", (Role.OPERATOR,))
HOLDER = Member("north", (Role.HOLDER,))
ANALYST = Member("south", (Role.ANALYST,))
THIRD = Member("west", (Role.HOLDER, Role.ANALYST))
MEMBERS = (OPERATOR, HOLDER, ANALYST, THIRD)

PRODUCT = ids.product_id(HOLDER.id, "lung")
USER = ids.user_id(ANALYST.id, "ada")
CONTRACT = ids.contract_id(uuid("contract"))


def trust() -> SpaceTrust:
    """The space's trust anchor."""
    return SpaceTrust(
        space=SPACE,
        authority=AUTHORITY.public,
        ca_certificate=(MATERIAL / "ca.pem").read_text("ascii"),
        operator_id=OPERATOR.id,
        operator_endpoint="operator.example:7443",
    )


def terms(**changes: object) -> Terms:
    """Terms of three uses for research within a year."""
    fields: dict[str, object] = {
        "purposes": ("research",),
        "uses": 3,
        "not_before": NOW - timedelta(days=1),
        "not_after": NOW + YEAR,
        "regions": ("CN",),
        "min_units": 10,
    }
    return simple_terms(**{**fields, **changes})  # type: ignore[arg-type]


def offer(offered: Terms | None = None, **changes: object) -> Offer:
    """An offer of `terms` to everyone."""
    fields: dict[str, object] = {
        "id": "standard",
        "visible_to": ("*",),
        "terms": offered or terms(),
        "limits": Limits(),
        "answer": AnswerMode.AUTOMATIC,
    }
    return Offer(**{**fields, **changes})  # type: ignore[arg-type]


def entry(**changes: object) -> CatalogEntry:
    """The entry of `PRODUCT`."""
    fields: dict[str, object] = {
        "id": PRODUCT,
        "version": 1,
        "previous": None,
        "issuer": HOLDER.id,
        "title": LocalizedText("Lung cancer survival", "肺癌生存数据"),
        "description": LocalizedText("Survival by institution.", "各机构的生存数据。"),
        "keywords": ("lung", "survival", "肺癌"),
        "theme": "health",
        "classification": Classification(
            ClassificationLevel.GENERAL, PersonalInformation.SENSITIVE, 228
        ),
        "quality_grade": QualityGrade.B,
        "security_level": 3,
        "delivery_form": DeliveryForm.DATASET,
        "source": "North Central Cancer Treatment Group",
        "update_cycle": "none",
        "columns": (
            Column("sex", "INTEGER", (ColumnUse.GROUP, ColumnUse.FILTER)),
            Column("time", "INTEGER", (ColumnUse.AGGREGATE,)),
        ),
        "privacy_unit": "patient_id",
        "release": terms().release,
        "offers": (offer(),),
        "issued_at": NOW,
        "valid_until": NOW + YEAR,
    }
    return CatalogEntry(**{**fields, **changes})  # type: ignore[arg-type]


def user_credential(member: Member = ANALYST, **changes: object) -> UserCredential:
    """The credential of the member's user ``ada``."""
    fields: dict[str, object] = {
        "user_id": ids.user_id(member.id, "ada"),
        "participant_id": member.id,
        "request_key": key(f"{member.name}/ada", KeyUse.REQUEST).public,
        "roles": (UserRole.ANALYST,),
        "not_before": NOW - YEAR,
        "not_after": NOW + YEAR,
    }
    return UserCredential(**{**fields, **changes})  # type: ignore[arg-type]


def request(name: str = "first", **changes: object) -> ComputationRequest:
    """A request by ``ada`` of the analyst's organisation."""
    fields: dict[str, object] = {
        "id": ids.request_id(uuid(f"request {name}")),
        "contract_id": CONTRACT,
        "user_id": USER,
        "purpose": "research",
        "sql": "SELECT sex, count(*) FROM lung GROUP BY sex",
        "issued_at": NOW,
    }
    return ComputationRequest(**{**fields, **changes})  # type: ignore[arg-type]


REQUEST_KEY = key("south/ada", KeyUse.REQUEST)


def use_body(asked: ComputationRequest, decision: int = 7) -> UseBody:
    """A use of a request, signed as it should be."""
    return UseBody(asked.sign(REQUEST_KEY), user_credential().sign(ANALYST.events), decision)


class Directory:
    """Who holds which events keys: the members of this space, unless revoked."""

    def __init__(self) -> None:
        self.revoked: dict[str, datetime] = {}

    def event_keys(self, participant_id: str, at: datetime) -> tuple[PublicKey, ...]:
        for member in MEMBERS:
            if member.id == participant_id:
                credential = member.credential()
                since = self.revoked.get(participant_id)
                if credential.is_valid_at(at) and (since is None or at < since):
                    return credential.keys_for(KeyUse.EVENTS)
        return ()


@dataclass
class Dealings:
    """A contract seen from its provider, with the events both sides hold."""

    state: ContractState | None = None
    events: list[SequencedEvent] = field(default_factory=list)
    keys: Directory = field(default_factory=Directory)
    now: datetime = NOW

    def draft(
        self, member: Member, event_type: EventType, body: Body, **changes: object
    ) -> ContractEvent:
        drafted = draft_event(
            self.state,
            event_type,
            body,
            author=member.id if self.state is None or self.state.party(member.id) else HOLDER.id,
            time=self.now,
            contract_id=CONTRACT if self.state is None else None,
        )
        return replace(drafted, **changes)  # type: ignore[arg-type]

    def submit(self, envelope: Envelope) -> ContractState:
        """What the provider does with an event that arrives."""
        check_submission(self.state, envelope, self.keys, self.now)
        sequenced = sequence(self.state, envelope, HOLDER.events, self.now)
        self.state = apply(self.state, sequenced, self.keys, self.now)
        self.events.append(sequenced)
        return self.state

    def do(self, member: Member, event_type: EventType, body: Body) -> ContractState:
        """One honest step, a second after the one before."""
        self.now += timedelta(seconds=1)
        return self.submit(self.draft(member, event_type, body).sign(member.events))

    def request(self, asked: Terms | None = None) -> ContractState:
        body = RequestBody(PRODUCT, "standard", asked or terms(), ENTRY_DIGEST)
        return self.do(ANALYST, EventType.REQUEST, body)

    def counter(self, offered: Terms) -> ContractState:
        return self.do(HOLDER, EventType.OFFER, OfferBody(offered))

    def accept(self) -> ContractState:
        return self.do(ANALYST, EventType.ACCEPT, EmptyBody())

    def agree(self) -> ContractState:
        assert self.state is not None
        signed_at = self.now + timedelta(seconds=1)
        body = AgreeBody(self.state.pending_agreement(signed_at))
        return self.do(HOLDER, EventType.AGREE, body)

    def verify(self) -> ContractState:
        return self.do(ANALYST, EventType.VERIFY, ConfirmBody(self._agreed()))

    def finalize(self) -> ContractState:
        return self.do(HOLDER, EventType.FINALIZE, ConfirmBody(self._agreed()))

    def negotiated(self, asked: Terms | None = None) -> Dealings:
        """From nothing to an active agreement, without a counter-offer."""
        self.request(asked)
        self.agree()
        self.verify()
        self.finalize()
        return self

    def reasoned(self, member: Member, event_type: EventType, reason: str = "") -> ContractState:
        return self.do(member, event_type, ReasonBody(reason))

    def use(self, name: str = "first") -> ContractState:
        asked = request(name, issued_at=self.now)
        return self.do(HOLDER, EventType.USE, use_body(asked))

    def _agreed(self) -> str:
        assert self.state is not None and self.state.agreed is not None
        return self.state.agreed.digest
