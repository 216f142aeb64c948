"""The documents whose golden files are in ``tests/golden``, made anew from fixed keys.

Run as a program it writes the files that don't exist yet. A file that exists is
never rewritten: it is what an older version wrote, and must stay readable.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import contract_world as world
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject, digest_of
from luoshu.contracts.contract import EventType, SequencedEvent
from luoshu.contracts.dp_terms import DpTerms, PrivacyBound
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.keys import KeyUse, PublicKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership import (
    Endpoints,
    EnrolmentRequest,
    Revocation,
    RevocationReason,
    Role,
    StatusList,
)
from luoshu.contracts.offer import AnswerMode, Limits
from luoshu.contracts.product import Tombstone
from luoshu.contracts.product_facts import Column, ColumnUse, Table, TableKey
from luoshu.contracts.release_terms import ReleaseMode, ReleaseScope, ReleaseTerms
from luoshu.contracts.templates import QueryTemplate, TemplateCall

FOLDER = Path(__file__).parent.parent / "golden"


def enrolment_request() -> EnrolmentRequest:
    """The holder's enrolment request, on the committed certificate signing request."""
    pem = (world.MATERIAL / "north.csr.pem").read_text("ascii")
    public = x509.load_pem_x509_csr(pem.encode()).public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    holder = world.HOLDER
    return EnrolmentRequest(
        space=world.SPACE,
        participant_id=holder.id,
        name=LocalizedText("North hospitals", "北方医院"),
        roles=(Role.HOLDER,),
        jurisdiction="CN-HA",
        keys=(
            holder.events.public,
            holder.key(KeyUse.LOG).public,
            holder.key(KeyUse.WITNESS).public,
            PublicKey.tls(der),
        ),
        endpoints=Endpoints("north.example:7443"),
        csr=pem,
        created_at=world.NOW,
    )


def story() -> world.Dealings:
    """A contract with an event of every kind that one life can hold."""
    dealings = world.Dealings()
    dealings.request(world.terms(uses=9))
    dealings.counter(world.terms(uses=2))
    dealings.accept()
    dealings.agree()
    dealings.verify()
    dealings.finalize()
    dealings.use("first")
    dealings.reasoned(world.HOLDER, EventType.SUSPEND, "maintenance 维护")
    dealings.reasoned(world.HOLDER, EventType.RESUME)
    dealings.use("second")
    dealings.do(world.HOLDER, EventType.COMPLETE, world.EmptyBody())
    return dealings


def endings() -> list[SequencedEvent]:
    """The other events that end a contract."""
    ends = []
    dealings = world.Dealings()
    dealings.request()
    dealings.reasoned(world.ANALYST, EventType.TERMINATE, "no longer needed")
    ends.append(dealings.events[-1])
    for member, event_type in (
        (world.HOLDER, EventType.REVOKE),
        (world.ANALYST, EventType.END),
    ):
        dealings = world.Dealings().negotiated()
        dealings.reasoned(member, event_type, "breach")
        ends.append(dealings.events[-1])
    dealings = world.Dealings().negotiated(world.terms(not_after=world.NOW + timedelta(seconds=30)))
    dealings.now += timedelta(seconds=60)
    dealings.do(world.HOLDER, EventType.EXPIRE, world.EmptyBody())
    ends.append(dealings.events[-1])
    return ends


def envelopes() -> dict[str, list[Envelope]]:
    """Signed documents by the name of their golden file."""
    told = [*story().events, *endings()]
    first = world.entry().sign(world.HOLDER.events)
    second = world.entry(
        version=2,
        previous=first.digest,
        offers=(
            world.offer(
                id="partners",
                visible_to=(world.ANALYST.id,),
                limits=Limits(5, ("research", "teaching"), world.NOW + world.YEAR, ("CN",)),
                answer=AnswerMode.MANUAL,
            ),
        ),
        privacy_unit=None,
    ).sign(world.HOLDER.events)
    revoked = (
        Revocation(
            ids.participant_id(world.SPACE, "west"), world.NOW, RevocationReason.KEY_COMPROMISED
        ),
    )
    status = StatusList(world.SPACE, 2, world.NOW, 600, revoked)
    return {
        "membership-credential.v1": [m.credential().sign(world.AUTHORITY) for m in world.MEMBERS],
        "enrolment-request.v1": [enrolment_request().sign(world.HOLDER.events)],
        "user-credential.v1": [world.user_credential().sign(world.ANALYST.events)],
        "status-list.v1": [status.sign(world.OPERATOR.key(KeyUse.STATUS))],
        "catalog-entry.v1": [first, second],
        "tombstone.v1": [
            Tombstone(world.PRODUCT, 3, second.digest, world.HOLDER.id, world.NOW).sign(
                world.HOLDER.events
            )
        ],
        "computation-request.v1": [world.request().sign(world.REQUEST_KEY)],
        "contract-event.v1": [item.event for item in told],
        "contract-position.v1": [item.position for item in told],
    }


TEMPLATE = QueryTemplate.from_payload(
    {
        "name": "by-sex",
        "sql": "SELECT count(*) AS n FROM lung WHERE sex = $sex AND d >= $since AND p < $p",
        "parameters": {
            "p": {"type": "decimal", "values": ["0.50", "12"]},
            "sex": {"type": "integer", "values": [1, 2]},
            "since": {"type": "date", "range": ["2020-01-01", "2024-12-31"]},
        },
    }
)


def later_options() -> JsonObject:
    """What documents of version 1 have been able to hold since: each absent where it isn't used."""
    terms = world.terms(
        jitter=6,
        dominance_ppm=800_000,
        scope=ReleaseScope.PRODUCT,
        debits=8,
        templates=(TEMPLATE,),
    )
    call = TemplateCall.of("by-sex", {"sex": 1, "since": "2020-02-29", "p": "12"})
    request = world.request(sql=None, template=call).sign(world.REQUEST_KEY)
    return {
        "terms": {"digest": digest_of(terms.to_payload()), "document": terms.to_payload()},
        "request": {"digest": request.digest, "envelope": request.to_json()},
    }


def later_additions() -> JsonObject:
    """More of the same: an entry of several tables, and terms under differential privacy."""
    key = "orders(o_orderkey)"
    entry = world.entry(
        columns=(
            Column("o_orderkey", "BIGINT", (), "orders"),
            Column("day", "DATE", (ColumnUse.GROUP,), "orders"),
            Column("l_orderkey", "BIGINT", (), "lineitem"),
            Column("name", "VARCHAR", (ColumnUse.FILTER,), "part"),
        ),
        tables=(
            Table("orders", "o_custkey", (TableKey(key, ("o_orderkey",)),)),
            Table("lineitem", None, (TableKey(key, ("l_orderkey",)),)),
            Table("part", None, ()),
        ),
    ).sign(world.HOLDER.events)
    noisy = ReleaseTerms(
        ReleaseMode.DP,
        1,
        dp=DpTerms(
            PrivacyBound(Decimal("0.5"), Decimal("0.000001")),
            PrivacyBound(Decimal(4), Decimal("0.00001")),
        ),
    )
    terms = replace(world.terms(), release=noisy)
    measured = replace(world.terms(), measurements=("sha256:" + "5e" * 32,))
    return {
        "entry": {"digest": entry.digest, "envelope": entry.to_json()},
        "measured": {"digest": digest_of(measured.to_payload()), "document": measured.to_payload()},
        "terms": {"digest": digest_of(terms.to_payload()), "document": terms.to_payload()},
    }


def golden() -> dict[str, JsonObject]:
    """The content of each golden file."""
    dealings = story()
    assert dealings.state is not None
    trust = world.trust()
    files: dict[str, JsonObject] = {
        name: {"documents": [{"digest": e.digest, "envelope": e.to_json()} for e in items]}
        for name, items in envelopes().items()
    }
    files["later-options.v1"] = later_options()
    files["later-additions.v1"] = later_additions()
    files["space.v1"] = {"digest": trust.digest, "document": trust.to_payload()}
    files["contract-state.v1"] = {
        "events": [item.to_json() for item in dealings.events],
        "state_hash": dealings.state.state_hash,
    }
    return files


def write_missing() -> None:
    """Writes the golden files that don't exist."""
    for name, content in golden().items():
        path = FOLDER / f"{name}.json"
        if not path.exists():
            text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
            path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_missing()
