"""Envelopes: one signature, one type, one form."""

import json

import pytest
from contract_world import AUTHORITY, HOLDER, entry, key
from securesystemslib import dsse
from securesystemslib.signer import SSlibKey

from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.documents import CATALOG_ENTRY, DOCUMENT_TYPES, TOMBSTONE, document_type
from luoshu.contracts.envelope import Envelope, sign, unverified_payload, verify
from luoshu.contracts.errors import DocumentError, EnvelopeError
from luoshu.contracts.keys import KeyUse, PublicKey, encode_base64

KEY = HOLDER.events
TYPE = TOMBSTONE.payload_type
PAYLOAD = {"schema": TOMBSTONE.schema, "text": "é 中", "n": 1}


def signed_bytes(data: bytes, payload_type: str = TYPE) -> Envelope:
    """An envelope whose signature is right, over whatever bytes."""
    pae = dsse.Envelope(data, payload_type, {}).pae()
    return Envelope(data, payload_type, KEY.public.key_id, KEY.sign(pae))


def test_what_was_signed_comes_back() -> None:
    envelope = Envelope.from_bytes(sign(PAYLOAD, TYPE, KEY).to_bytes())
    assert verify(envelope, TYPE, [key("x", KeyUse.EVENTS).public, KEY.public]) == PAYLOAD
    assert envelope.payload == canonicalize(PAYLOAD)
    assert Envelope.from_json(envelope.to_json()) == envelope


def test_the_encoding_is_dsse() -> None:
    # https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
    envelope = sign(PAYLOAD, TYPE, KEY)
    pae = b"DSSEv1 %d %b %d %b" % (
        len(TYPE),
        TYPE.encode(),
        len(envelope.payload),
        envelope.payload,
    )
    KEY.public.verify(envelope.signature, pae)
    other = dsse.Envelope.from_dict(json.loads(envelope.to_bytes()))
    library_key = SSlibKey(
        KEY.public.key_id, "ed25519", "ed25519", {"public": KEY.public.public_bytes.hex()}
    )
    assert other.verify([library_key], 1)


def test_digest_names_the_payload_whoever_signed() -> None:
    mine, other = (sign(PAYLOAD, TYPE, k) for k in (KEY, key("x", KeyUse.EVENTS)))
    assert mine.digest == other.digest
    assert mine.digest != sign({**PAYLOAD, "n": 2}, TYPE, KEY).digest


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(PAYLOAD).encode(),
        canonicalize(PAYLOAD) + b"\n",
        canonicalize(PAYLOAD).replace("é".encode(), b"\\u00e9"),
        b'{"n":-0,"schema":"luoshu/tombstone/v1"}',
        b'{"schema":"luoshu/tombstone/v1","n":1}',
        b'{"n":1,"n":1,"schema":"luoshu/tombstone/v1"}',
        b'{"n":1.5,"schema":"luoshu/tombstone/v1"}',
        b'"luoshu/tombstone/v1"',
        b"",
        b"\xff",
    ],
)
def test_payloads_that_are_not_canonical_are_refused_even_when_signed(data: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        verify(signed_bytes(data), TYPE, [KEY.public])
    assert caught.value.reason == "MALFORMED_MESSAGE"


def test_another_type_is_refused_though_signed_by_the_right_key() -> None:
    envelope = sign(PAYLOAD, TYPE, KEY)
    with pytest.raises(EnvelopeError, match="tombstone, where a catalog-entry"):
        verify(envelope, CATALOG_ENTRY.payload_type, [KEY.public])
    relabelled = Envelope(
        envelope.payload, CATALOG_ENTRY.payload_type, envelope.key_id, envelope.signature
    )
    with pytest.raises(EnvelopeError, match="does not verify"):
        verify(relabelled, CATALOG_ENTRY.payload_type, [KEY.public])
    resigned = signed_bytes(envelope.payload, CATALOG_ENTRY.payload_type)
    with pytest.raises(EnvelopeError) as caught:
        verify(resigned, CATALOG_ENTRY.payload_type, [KEY.public])
    assert caught.value.reason == "SCHEMA_UNKNOWN"


@pytest.mark.parametrize("use", [use for use in KeyUse if use not in {KeyUse.EVENTS, KeyUse.TLS}])
def test_a_key_of_another_use_neither_signs_nor_verifies(use: KeyUse) -> None:
    other = key("north", use)
    with pytest.raises(EnvelopeError, match="a key for events, not one for"):
        sign(PAYLOAD, TYPE, other)
    same_bytes = PublicKey.from_raw(KEY.public.public_bytes, use)
    with pytest.raises(EnvelopeError, match="not signed by a key"):
        verify(sign(PAYLOAD, TYPE, KEY), TYPE, [same_bytes])


def test_a_named_key_that_did_not_sign_is_refused() -> None:
    envelope = sign(PAYLOAD, TYPE, KEY)
    other = key("x", KeyUse.EVENTS).public
    with pytest.raises(EnvelopeError, match="not signed by a key"):
        verify(envelope, TYPE, [other])
    with pytest.raises(EnvelopeError, match="not signed by a key"):
        verify(envelope, TYPE, [])
    forged = Envelope(envelope.payload, TYPE, other.key_id, envelope.signature)
    with pytest.raises(EnvelopeError, match="does not verify"):
        verify(forged, TYPE, [other, KEY.public])


def test_every_bit_of_payload_and_signature_counts() -> None:
    envelope = sign(PAYLOAD, TYPE, KEY)
    for name in ("payload", "signature"):
        data = getattr(envelope, name)
        for position in range(len(data)):
            changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            fields = {"payload": envelope.payload, "signature": envelope.signature, name: changed}
            forged = Envelope(fields["payload"], TYPE, envelope.key_id, fields["signature"])
            with pytest.raises(EnvelopeError):
                verify(forged, TYPE, [KEY.public])


def test_a_signature_in_another_form_is_refused() -> None:
    # s + L satisfies the equation but is not canonical (RFC 8032 §5.1.7).
    order = 2**252 + 27742317777372353535851937790883648493
    envelope = sign(PAYLOAD, TYPE, KEY)
    s = int.from_bytes(envelope.signature[32:], "little") + order
    malleable = envelope.signature[:32] + s.to_bytes(32, "little")
    with pytest.raises(EnvelopeError):
        verify(Envelope(envelope.payload, TYPE, envelope.key_id, malleable), TYPE, [KEY.public])


def _change(change: dict) -> bytes:
    return json.dumps({**sign(PAYLOAD, TYPE, KEY).to_json(), **change}).encode()


SIGNATURE = {"keyid": KEY.public.key_id, "sig": encode_base64(bytes(64))}


@pytest.mark.parametrize(
    "change",
    [
        {"signatures": []},
        {"signatures": [SIGNATURE, SIGNATURE]},
        {"signatures": [SIGNATURE, {**SIGNATURE, "keyid": AUTHORITY.public.key_id}]},
        {"signatures": SIGNATURE},
        {"signatures": [{**SIGNATURE, "extra": 1}]},
        {"signatures": [{"sig": SIGNATURE["sig"]}]},
        {"signatures": [{**SIGNATURE, "keyid": ""}]},
        {"signatures": [{**SIGNATURE, "keyid": KEY.public.key_id.upper()}]},
        {"signatures": [{**SIGNATURE, "sig": ""}]},
        {"signatures": [{**SIGNATURE, "sig": encode_base64(bytes(63))}]},
        {"payload": "e30"},
        {"payload": "_-8="},
        {"payload": {}},
        {"payload": None},
        {"payloadType": 1},
        {"payloadType": ""},
        {"payloadType": "x" * 101},
        {"extra": True},
    ],
)
def test_ill_formed_envelopes_are_refused(change: dict) -> None:
    with pytest.raises(EnvelopeError) as caught:
        Envelope.from_bytes(_change(change))
    assert caught.value.reason == "MALFORMED_MESSAGE"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"null", b'{"payload":"","payload":""}', b"[" * 100_000]
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        Envelope.from_bytes(data)


def test_a_big_envelope_is_refused_unread() -> None:
    with pytest.raises(EnvelopeError) as caught:
        Envelope.from_bytes(b" " * 2_000, max_bytes=1_000)
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize(
    ("payload_type", "says"),
    [
        ("application/vnd.luoshu.tombstone.v2+json", "version 2; this program reads v1"),
        ("application/vnd.luoshu.secret.v1+json", "no document type"),
        ("application/json", "no document type"),
        (TYPE + "\u200b", "invisible"),
    ],
)
def test_unknown_types_and_versions_are_refused_with_what_is_known(
    payload_type: str, says: str
) -> None:
    envelope = signed_bytes(canonicalize(PAYLOAD), payload_type)
    with pytest.raises(EnvelopeError, match=says):
        verify(envelope, TYPE, [KEY.public])
    with pytest.raises(DocumentError):
        verify(envelope, payload_type, [KEY.public])
    with pytest.raises(DocumentError):
        sign(PAYLOAD, payload_type, KEY)


def test_a_payload_of_another_schema_is_neither_signed_nor_accepted() -> None:
    for schema in ("luoshu/tombstone/v2", "luoshu/tombstone/v1 ", 1, None):
        payload = {**PAYLOAD, "schema": schema}
        with pytest.raises(DocumentError) as refused:
            sign(payload, TYPE, KEY)
        assert refused.value.reason == "SCHEMA_UNKNOWN"
        with pytest.raises(EnvelopeError) as caught:
            verify(signed_bytes(canonicalize(payload)), TYPE, [KEY.public])
        assert caught.value.reason == "SCHEMA_UNKNOWN"


def test_every_kind_has_its_own_type_and_schema() -> None:
    kinds = list(DOCUMENT_TYPES.values())
    assert len({kind.schema for kind in kinds}) == len(kinds)
    assert all(document_type(kind.payload_type) is kind for kind in kinds)


def test_unverified_payload_reads_and_promises_nothing() -> None:
    envelope = entry().sign(KEY)
    forged = Envelope(envelope.payload, envelope.payload_type, envelope.key_id, bytes(64))
    assert unverified_payload(forged)["issuer"] == HOLDER.id
    with pytest.raises(EnvelopeError):
        unverified_payload(Envelope(b"[]", TYPE, envelope.key_id, bytes(64)))
