"""Membership between real nodes: introduction, rotation, status list, revocation."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil

import pytest

from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.connector.membership.node_files import load_node
from luoshu.connector.membership.status import StatusSigner
from luoshu.connector.rpc.peers import PeerClients
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.ids import dns_name
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.membership import EnrolmentRequest

OPERATOR = "urn:luoshu:alliance:operator"
CLINIC = "urn:luoshu:alliance:clinic"
INSTITUTE = "urn:luoshu:alliance:institute"


async def refusal(awaitable) -> NodeError:
    with pytest.raises(NodeError) as caught:
        await awaitable
    return caught.value


def entries(node):
    return node.ledger.entries(0, node.ledger.size)


def membership_events(node):
    return [entry.body.data["event"] for entry in entries(node)]


async def test_introduction_teaches_both_sides_and_logs_once(space):
    async with space.running("operator") as operator, space.running("institute") as institute:
        assert institute.directory.status is None
        await institute.peers.introduce(OPERATOR)
        await institute.peers.introduce(OPERATOR)
        assert operator.directory.require_member(INSTITUTE, space.clock.now()).serial == 1
        assert institute.directory.require_member(OPERATOR, space.clock.now()).serial == 1
        # itself, the first list, the institute; itself, the operator, the list
        assert membership_events(operator) == ["credential", "status-list", "credential"]
        assert membership_events(institute) == ["credential", "credential", "status-list"]


async def test_first_call_introduces_by_itself(space):
    async with space.running("operator"), space.running("institute") as institute:
        assert len(await institute.peers.list_members(OPERATOR)) == 2


async def test_peer_that_forgot_us_is_introduced_to_again(space):
    async with space.running("institute") as institute:
        async with space.running("operator"):
            await institute.peers.list_members(OPERATOR)
        for forgotten in ("log", "state"):
            shutil.rmtree(space.path / "operator" / forgotten)
        async with space.running("operator") as operator:
            # Another port, hence another channel, which thinks it was introduced.
            institute.peers._link(OPERATOR).introduced = True
            assert INSTITUTE not in operator.directory._members
            assert len(await institute.peers.list_members(OPERATOR)) == 2


async def test_unknown_member_is_asked_of_the_operator(space):
    async with space.running("operator"), space.running("clinic") as clinic:
        await clinic.peers.introduce(OPERATOR)
        async with space.running("institute") as institute:
            await institute.peers.introduce(OPERATOR)
            assert (await institute.service.require_member(CLINIC)).participant_id == CLINIC
            error = await refusal(institute.service.require_member("urn:luoshu:alliance:nobody"))
    assert error.reason == "NOT_FOUND"


async def test_restarted_node_knows_what_it_learnt(space):
    async with space.running("operator"):
        async with space.running("institute") as institute:
            await institute.peers.introduce(OPERATOR)
            size = institute.ledger.size
        async with space.running("institute") as again:
            assert again.directory.require_member(OPERATOR, space.clock.now())
            assert again.ledger.size == size


async def test_revocation_reaches_a_watching_member(space):
    async with (
        space.running("operator") as operator,
        space.running("clinic") as clinic,
        space.running("institute") as institute,
    ):
        await institute.peers.introduce(OPERATOR)
        await clinic.peers.introduce(OPERATOR)
        lists = clinic.peers.watch_status_list(OPERATOR)
        await clinic.service.accept_status_list(await anext(lists))
        await institute.peers.introduce(CLINIC)
        assert clinic.directory.require_member(INSTITUTE, space.clock.now())

        before = space.clock.now()
        space.clock.advance(dt.timedelta(seconds=1))
        version = await operator.service.revoke(INSTITUTE, "key-compromised", by=f"{OPERATOR}:x")
        assert version == 2
        async with asyncio.timeout(5):
            await clinic.service.accept_status_list(await anext(lists))
        await lists.aclose()
        with pytest.raises(NodeError, match="revoked"):
            clinic.directory.require_member(INSTITUTE, space.clock.now())
        # What it signed before stays verifiable; what it signs now doesn't count.
        assert clinic.directory.event_keys(INSTITUTE, before)
        assert clinic.directory.event_keys(INSTITUTE, space.clock.now()) == ()
        error = await refusal(institute.peers.list_members(CLINIC))
        assert error.reason == "CREDENTIAL_REVOKED"
        error = await refusal(clinic.service.require_member(INSTITUTE))
        assert error.reason == "CREDENTIAL_REVOKED"
        assert entries(clinic)[-1].body.parties == (INSTITUTE,)


async def test_revoking_twice_is_once(space):
    async with space.running("operator") as operator:
        first = await operator.service.revoke(INSTITUTE, "left", by="x")
        assert await operator.service.revoke(INSTITUTE, "expelled", by="x") == first


@pytest.mark.parametrize(
    ("participant", "reason"),
    [
        (INSTITUTE, "because"),
        ("institute", "left"),
        ("urn:luoshu:elsewhere:institute", "left"),
        (OPERATOR, "left"),
    ],
)
async def test_revocation_must_make_sense(space, participant, reason):
    async with space.running("operator") as operator:
        error = await refusal(operator.service.revoke(participant, reason, by="x"))
    assert error.reason == "MALFORMED_MESSAGE"


async def test_only_the_operator_revokes(space):
    async with space.running("clinic") as clinic:
        error = await refusal(clinic.service.revoke(INSTITUTE, "left", by="x"))
    assert error.reason == "ROLE_REQUIRED"


async def test_rollback_of_the_status_list_is_refused_also_after_a_restart(space):
    async with space.running("operator") as operator:
        old = operator.directory.status.envelope.to_bytes()
        async with space.running("clinic") as clinic:
            await clinic.peers.introduce(OPERATOR)
            await operator.service.revoke(INSTITUTE, "left", by="x")
            await clinic.service.accept_status_list(operator.directory.status.envelope.to_bytes())
            error = await refusal(clinic.service.accept_status_list(old))
            assert error.reason == "STATUS_LIST_STALE"
        (space.path / "clinic" / "status-list.json").write_bytes(old)
        async with space.running("clinic") as again:
            assert again.directory.status.status.version == 2
            error = await refusal(again.service.accept_status_list(old))
            assert error.reason == "STATUS_LIST_STALE"


async def test_refresh_of_an_unchanged_list_is_not_logged_but_kept(space):
    async with space.running("operator") as operator:
        async with space.running("clinic") as clinic:
            await clinic.peers.introduce(OPERATOR)
            size = clinic.ledger.size
            space.clock.advance(dt.timedelta(seconds=300))
            await operator.service.refresh()
            await clinic.service.accept_status_list(operator.directory.status.envelope.to_bytes())
            assert clinic.ledger.size == size
        space.clock.advance(dt.timedelta(seconds=400))
        async with space.running("clinic") as again:
            assert again.directory.require_member(OPERATOR, space.clock.now())


async def test_two_lists_of_one_version_are_caught(space):
    async with space.running("operator") as operator, space.running("clinic") as clinic:
        await clinic.peers.introduce(OPERATOR)
        signer = StatusSigner("alliance", operator.files.status)
        first = operator.directory.status
        await operator.service.revoke(INSTITUTE, "left", by="x")
        await clinic.service.accept_status_list(operator.directory.status.envelope.to_bytes())
        forked = signer.sign(2, first.status.revoked, space.clock.now())
        error = await refusal(clinic.service.accept_status_list(forked.envelope.to_bytes()))
    assert error.reason == "CREDENTIAL_INVALID"
    assert "differ" in error.public


async def test_status_list_by_another_key_is_refused(space):
    async with space.running("operator"), space.running("clinic") as clinic:
        await clinic.peers.introduce(OPERATOR)
        signer = StatusSigner("alliance", SigningKey.generate(KeyUse.STATUS))
        forged = signer.sign(9, (), space.clock.now()).envelope.to_bytes()
        error = await refusal(clinic.service.accept_status_list(forged))
        assert error.reason == "CREDENTIAL_INVALID"
        error = await refusal(clinic.service.accept_status_list(b"{}"))
        assert error.reason == "MALFORMED_MESSAGE"


async def test_operator_goes_on_where_it_left_off(space):
    async with space.running("operator") as operator:
        await operator.service.revoke(INSTITUTE, "left", by="x")
    space.clock.advance(dt.timedelta(hours=3))
    async with space.running("operator") as again:
        status = again.directory.status.status
        assert (status.version, status.is_revoked(INSTITUTE, space.clock.now())) == (2, True)
        assert status.is_fresh_at(space.clock.now())


async def test_following_member_catches_up_when_the_operator_returns(space):
    async with space.running("clinic") as clinic:
        space.addresses[OPERATOR] = "127.0.0.1:1"
        following = asyncio.create_task(clinic.service.run())
        try:
            async with space.running("operator"), asyncio.timeout(20):
                async for _ in clinic.service.watch_status_list():
                    break
            assert clinic.directory.require_member(OPERATOR, space.clock.now())
        finally:
            following.cancel()


async def test_rotated_keys_are_learnt_and_the_old_ones_stay_verifiable(space):
    before = space.clock.now()
    async with space.running("operator") as operator:
        async with space.running("clinic") as clinic:
            await clinic.peers.introduce(OPERATOR)
            old_events = clinic.files.events.public
            space.clock.advance(dt.timedelta(minutes=1))
            rotate(space, "clinic")
            retired = PeerClients(
                clinic.identity, AddressBook(clinic.directory, space.addresses), space.clock
            )
        async with space.running("clinic") as rotated:
            # The operator knows serial 1 only; the new TLS key isn't in it.
            assert len(await rotated.peers.list_members(OPERATOR)) == 2
            now = space.clock.now()
            new_events = rotated.files.events.public
            assert new_events != old_events
            assert operator.directory.event_keys(CLINIC, now) == (new_events, old_events)
            assert operator.directory.event_keys(CLINIC, before) == (old_events,)
        # The old credential and TLS key never come back into force.
        error = await refusal(retired.list_members(OPERATOR))
        await retired.close()
        assert error.reason == "CREDENTIAL_INVALID"
        assert operator.directory.require_member(CLINIC, space.clock.now()).serial == 2


class AddressBook:
    """The rotated-out clinic's view of the space."""

    def __init__(self, directory, addresses):
        self._directory = directory
        self._addresses = addresses

    def endpoint(self, participant_id):
        return self._addresses[participant_id]

    def own_credential(self):
        return self._directory.own_credential()


def rotate(space, name):
    """New events and TLS keys, asked for under the signature of the old events key."""
    directory = space.path / name
    node = load_node(directory, now=space.clock.now())
    request = EnrolmentRequest.from_payload(
        unverified_payload(Envelope.from_bytes((directory / "enrolment-request.json").read_bytes()))
    )
    events, tls = SigningKey.generate(KeyUse.EVENTS), pki.generate_key()
    kept = tuple(k for k in request.keys if k.use not in {KeyUse.EVENTS, KeyUse.TLS})
    spki = pki.spki_der(tls.public_key())
    # The old key is listed so that its signature proves that the member itself asks.
    asked = EnrolmentRequest(
        space=request.space,
        participant_id=request.participant_id,
        name=request.name,
        roles=request.roles,
        jurisdiction=request.jurisdiction,
        keys=(events.public, node.events.public, *kept, PublicKey.tls(spki)),
        endpoints=request.endpoints,
        csr=pki.create_request(tls, node.participant_id, dns_name(node.participant_id)).decode(),
        created_at=space.clock.now(),
    )
    (directory / "keys" / "events.pem").write_bytes(events.to_pem())
    (directory / "keys" / "tls.pem").write_bytes(pki.key_to_pem(tls))
    signed = asked.sign(node.events).to_bytes()
    (directory / "enrolment-request.json").write_bytes(signed)
    assert space.grant(name, signed).serial == 2
