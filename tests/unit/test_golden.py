"""Every document ever written stays readable, byte for byte."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from contract_world import AUTHORITY, MEMBERS, REQUEST_KEY, Directory
from golden_documents import FOLDER, golden

from luoshu.contracts import documents
from luoshu.contracts.canonical import JsonObject, JsonValue, canonicalize, digest_of
from luoshu.contracts.contract import ContractEvent, Position, SequencedEvent, fold
from luoshu.contracts.documents import DOCUMENT_TYPES
from luoshu.contracts.envelope import Envelope, sign, verify
from luoshu.contracts.errors import ContractsError, DocumentError, EnvelopeError
from luoshu.contracts.fields import Fields
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership import (
    EnrolmentRequest,
    MembershipCredential,
    SpaceTrust,
    StatusList,
    UserCredential,
)
from luoshu.contracts.product import CatalogEntry, Tombstone
from luoshu.contracts.request import ComputationRequest
from luoshu.contracts.terms import Terms

READERS: dict[str, Callable[[JsonObject], object]] = {
    documents.MEMBERSHIP_CREDENTIAL.name: MembershipCredential.from_payload,
    documents.ENROLMENT_REQUEST.name: EnrolmentRequest.from_payload,
    documents.USER_CREDENTIAL.name: UserCredential.from_payload,
    documents.STATUS_LIST.name: StatusList.from_payload,
    documents.CATALOG_ENTRY.name: CatalogEntry.from_payload,
    documents.TOMBSTONE.name: Tombstone.from_payload,
    documents.COMPUTATION_REQUEST.name: ComputationRequest.from_payload,
    documents.CONTRACT_EVENT.name: ContractEvent.from_payload,
    documents.CONTRACT_POSITION.name: Position.from_payload,
}
STABILITY = Path(__file__).parents[2] / "docs" / "stability.md"
SIGNED = {f"{kind.name}.v{kind.version}": kind for kind in DOCUMENT_TYPES.values()}
KEYS = [AUTHORITY, REQUEST_KEY] + [
    member.key(use) for member in MEMBERS for use in (KeyUse.EVENTS, KeyUse.STATUS)
]


def load(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def signer(envelope: Envelope, use: KeyUse) -> SigningKey:
    return next(k for k in KEYS if k.public.key_id == envelope.key_id and k.use is use)


def documents_of(name: str) -> list[Envelope]:
    return [Envelope.from_json(item["envelope"]) for item in load(name)["documents"]]


def test_there_is_a_file_for_every_kind_and_a_reader() -> None:
    assert {kind.name for kind in DOCUMENT_TYPES.values()} == set(READERS)
    assert all((FOLDER / f"{name}.json").exists() for name in SIGNED)


@pytest.mark.parametrize("name", sorted(golden()))
def test_documents_are_written_as_they_always_were(name: str) -> None:
    assert golden()[name] == load(name)


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_golden_documents_verify_and_read_back(name: str) -> None:
    kind = SIGNED[name]
    for item in load(name)["documents"]:
        envelope = Envelope.from_json(item["envelope"])
        payload = verify(envelope, kind.payload_type, [k.public for k in KEYS])
        document = READERS[kind.name](payload)
        assert canonicalize(document.to_payload()) == envelope.payload  # type: ignore[attr-defined]
        assert envelope.digest == item["digest"] == digest_of(payload)


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_unknown_versions_are_refused(name: str) -> None:
    kind = SIGNED[name]
    envelope = documents_of(name)[0]
    key = signer(envelope, kind.use)
    payload = verify(envelope, kind.payload_type, [key.public])
    newer = {**payload, "schema": f"luoshu/{kind.name}/v2"}
    with pytest.raises(DocumentError) as caught:
        READERS[kind.name](newer)
    assert caught.value.reason == "SCHEMA_UNKNOWN"
    with pytest.raises(DocumentError) as refused:
        sign(newer, kind.payload_type, key)
    assert refused.value.reason == "SCHEMA_UNKNOWN"
    next_type = kind.payload_type.replace(".v1+", ".v2+")
    relabelled = Envelope(envelope.payload, next_type, envelope.key_id, envelope.signature)
    with pytest.raises(EnvelopeError, match="version 2; this program reads v1") as old:
        verify(relabelled, kind.payload_type, [key.public])
    assert old.value.reason == "SCHEMA_UNKNOWN"


# Every field of a document, one at a time: gone, of another type, and one more.
@pytest.mark.parametrize("name", sorted(SIGNED))
def test_each_field_is_needed_typed_and_known(name: str) -> None:
    kind = SIGNED[name]
    read = READERS[kind.name]
    for envelope in documents_of(name):
        payload = json.loads(envelope.payload)
        _each_field(payload, payload, read)


def _each_field(payload: dict, part: dict, read: Callable[[JsonObject], object]) -> None:
    with pytest.raises(DocumentError):
        _with(payload, part, "zz", 1, read)
    for field in list(part):
        value = part[field]
        del part[field]
        if field not in {"constraint", "prohibition"}:
            with pytest.raises(DocumentError):
                read(payload)
        part[field] = value
        for other in (True, 1.5, -1, 2**70, [[]], {"": 0}, "\u202e", "\ud800"):
            if field == "sql" and other == "\u202e":
                continue
            with pytest.raises(ContractsError) as caught:
                _with(payload, part, field, other, read)
            assert caught.value.reason in {
                "MALFORMED_MESSAGE",
                "SCHEMA_UNKNOWN",
                "CREDENTIAL_INVALID",
            }, (field, other)
        items = value if isinstance(value, list) else [value]
        for item in items:
            if isinstance(item, dict) and field not in {"request", "user"}:
                _each_field(payload, item, read)


def _with(
    payload: dict, part: dict, field: str, value: object, read: Callable[[JsonObject], object]
) -> None:
    missing = object()
    before = part.get(field, missing)
    part[field] = value
    try:
        read(payload)
    finally:
        if before is missing:
            del part[field]
        else:
            part[field] = before


def test_the_trust_anchor_reads_back() -> None:
    content = load("space.v1")
    trust = SpaceTrust.from_payload(content["document"])
    assert trust.to_payload() == content["document"]
    assert trust.digest == content["digest"]
    assert SpaceTrust.from_bytes(trust.to_bytes()) == trust
    _each_field(content["document"], content["document"], SpaceTrust.from_payload)


def test_later_options_of_documents_read_back() -> None:
    content = load("later-options.v1")
    terms = Terms.from_payload(content["terms"]["document"])
    assert digest_of(terms.to_payload()) == content["terms"]["digest"]
    envelope = Envelope.from_json(content["request"]["envelope"])
    request = ComputationRequest.from_payload(
        verify(envelope, documents.COMPUTATION_REQUEST.payload_type, [REQUEST_KEY.public])
    )
    assert canonicalize(request.to_payload()) == envelope.payload
    assert envelope.digest == content["request"]["digest"]


def test_later_additions_to_documents_read_back() -> None:
    content = load("later-additions.v1")
    envelope = Envelope.from_json(content["entry"]["envelope"])
    entry = CatalogEntry.from_payload(
        verify(
            envelope,
            documents.CATALOG_ENTRY.payload_type,
            [k.public for k in KEYS if k.use is KeyUse.EVENTS],
        )
    )
    assert canonicalize(entry.to_payload()) == envelope.payload
    assert envelope.digest == content["entry"]["digest"]
    terms = Terms.from_payload(content["terms"]["document"])
    assert terms.to_payload() == content["terms"]["document"]
    assert digest_of(terms.to_payload()) == content["terms"]["digest"]


# Keys that joined a version after it was first written, by the part. `docs/stability.md`
# says what such a key must be; who adds one here adds a golden document with it.
JOINED = {
    "catalog-entry": {"tables"},
    "column": {"table"},
    "computation-request": {"template"},
    "release": {"jitter", "dominance_ppm", "scope", "debits", "dp"},
    "terms": {"templates", "measurements"},
}
ALWAYS_OPTIONAL = {
    "rule": {"constraint"},
    "terms": {"prohibition", "obligation"},
    # One of two is there, and which is a rule of the part.
    "computation-request": {"sql"},
    "parameter": {"values", "range"},
    "release.dp": {"quota"},
}


def later_documents() -> dict[str, tuple[JsonObject, Callable[[JsonObject], object]]]:
    """A document with each key that joined later, by that key, and what reads it."""
    options, additions = load("later-options.v1"), load("later-additions.v1")
    terms = options["terms"]["document"]
    request = json.loads(Envelope.from_json(options["request"]["envelope"]).payload)
    entry = json.loads(Envelope.from_json(additions["entry"]["envelope"]).payload)
    plain = {**terms, "release": {"mode": "aggregate", "min_units": 10}}
    del plain["templates"]
    found: dict[str, tuple[JsonObject, Callable[[JsonObject], object]]] = {
        "catalog-entry.tables": (entry, CatalogEntry.from_payload),
        "column.table": (entry, CatalogEntry.from_payload),
        "computation-request.template": (request, ComputationRequest.from_payload),
        "release.dp": (additions["terms"]["document"], Terms.from_payload),
        "terms.measurements": (additions["measured"]["document"], Terms.from_payload),
        "terms.templates": ({**plain, "templates": terms["templates"]}, Terms.from_payload),
    }
    for name in ("jitter", "dominance_ppm", "scope", "debits"):
        release = {**plain["release"], name: terms["release"][name]}
        found[f"release.{name}"] = ({**plain, "release": release}, Terms.from_payload)
    return found


@contextmanager
def older_reader(joined: Mapping[str, Collection[str]]) -> Iterator[set[tuple[str, str]]]:
    """Readers as they were before some keys joined; gives all optional keys that they know."""
    known: set[tuple[str, str]] = set()
    plain = Fields.__init__

    def older(
        fields: Fields,
        value: JsonValue,
        where: str,
        required: Collection[str],
        optional: Collection[str] = (),
    ) -> None:
        known.update((where, name) for name in optional)
        plain(fields, value, where, required, set(optional) - set(joined.get(where, ())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fields, "__init__", older)
        yield known


LATER = sorted(f"{part}.{key}" for part, keys in JOINED.items() for key in keys)


@pytest.mark.parametrize("name", LATER)
def test_an_older_reader_refuses_what_it_does_not_know(name: str) -> None:
    """It never takes a document for one without the key: that would be another document."""
    payload, read = later_documents()[name]
    assert read(payload)
    part, _, key = name.rpartition(".")
    with older_reader({part: {key}}), pytest.raises(DocumentError, match="unknown field") as caught:
        read(payload)
    assert caught.value.reason == "MALFORMED_MESSAGE"


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_a_document_without_later_keys_is_the_same_to_old_and_new_readers(name: str) -> None:
    for envelope in documents_of(name):
        payload = json.loads(envelope.payload)
        new = READERS[SIGNED[name].name](payload)
        with older_reader(JOINED):
            assert READERS[SIGNED[name].name](payload) == new
            assert canonicalize(new.to_payload()) == envelope.payload  # type: ignore[attr-defined]


def test_every_optional_key_is_accounted_for() -> None:
    """A key that is made optional without a word is found here."""
    with older_reader({}) as known:
        for payload, read in later_documents().values():
            read(payload)
        for name, kind in SIGNED.items():
            for envelope in documents_of(name):
                READERS[kind.name](json.loads(envelope.payload))
    listed = {
        (part, key)
        for keys_of in (JOINED, ALWAYS_OPTIONAL)
        for part, keys in keys_of.items()
        for key in keys
    }
    assert known == listed
    assert set(later_documents()) == set(LATER)
    assert all(
        f"`{key}`" in STABILITY.read_text("utf-8") for keys in JOINED.values() for key in keys
    )


def test_a_golden_contract_folds_to_its_golden_state() -> None:
    content = load("contract-state.v1")
    events = [SequencedEvent.from_json(item) for item in content["events"]]
    assert fold(events, Directory()).state_hash == content["state_hash"]
