"""The usage log over gRPC: who may read a body, and proofs that verify."""

from __future__ import annotations

import contextlib

import grpc
import pytest

from luoshu.api.node.log.v1 import log_pb2, log_pb2_grpc
from luoshu.connector.errors import NodeError
from luoshu.connector.membership.users import add_user, revoke_user
from luoshu.connector.rpc.errors import from_rpc_error
from luoshu.contracts.canonical import parse_object
from luoshu.contracts.ids import dns_name
from luoshu.contracts.log.receipt import Receipt, verify_receipt
from luoshu.contracts.membership import Role, UserRole

OPERATOR = "urn:luoshu:alliance:operator"
CLINIC = "urn:luoshu:alliance:clinic"


async def write(node, *parties):
    return await node.ledger.commit(
        lambda tx: tx.record("membership", {"event": "note"}, parties=parties)
    )


async def test_parties_read_and_others_find_nothing(space):
    async with space.running("operator") as operator, space.running("clinic") as clinic:
        theirs = await write(operator, CLINIC)
        others = await write(operator, "urn:luoshu:alliance:institute")
        receipt = Receipt.from_payload(parse_object(await clinic.peers.log_entry(OPERATOR, theirs)))
        body = verify_receipt(receipt, operator.files.log.public, OPERATOR)
        assert body.parties == (CLINIC,)
        texts = set()
        for index in (others, 10_000):
            with pytest.raises(NodeError) as caught:
                await clinic.peers.log_entry(OPERATOR, index)
            assert caught.value.reason == "NOT_FOUND"
            texts.add(caught.value.public)
        # "Not yours" and "not there" look alike.
        assert len(texts) == 1


async def test_an_auditor_reads_everything(space):
    space.enrol("inspector", Role.AUDITOR)
    async with space.running("operator") as operator, space.running("inspector") as inspector:
        index = await write(operator, CLINIC)
        assert await inspector.peers.log_entry(OPERATOR, index)


async def test_proofs_are_for_every_member(space):
    async with space.running("operator") as operator, space.running("clinic") as clinic:
        await write(operator)
        assert (await clinic.peers.checkpoint(OPERATOR)).startswith(OPERATOR)
        size = operator.ledger.size
        proof = await clinic.peers.inclusion_proof(OPERATOR, 0, size)
        assert list(proof) == operator.ledger.inclusion_proof(0, size)
        proof = await clinic.peers.consistency_proof(OPERATOR, 1, size)
        assert list(proof) == operator.ledger.consistency_proof(1, size)
        with pytest.raises(NodeError) as caught:
            await clinic.peers.inclusion_proof(OPERATOR, size, size)
        assert caught.value.reason == "MALFORMED_MESSAGE"


@contextlib.asynccontextmanager
async def user_stub(space, node, name, role):
    profile = space.path / f"profile-{name}"
    add_user(
        node.files.directory,
        name,
        [role],
        profile,
        address=node.user_server.address,
        now=space.clock.now(),
    )
    credentials = grpc.ssl_channel_credentials(
        (profile / "node-ca.crt").read_bytes(),
        (profile / "tls.key").read_bytes(),
        (profile / "tls.crt").read_bytes(),
    )
    options = [("grpc.ssl_target_name_override", dns_name(node.id))]
    async with grpc.aio.secure_channel(
        node.user_server.address, credentials, options=options
    ) as channel:
        yield log_pb2_grpc.LogServiceStub(channel)


async def test_users_list_by_role(space):
    async with space.running("operator") as node:
        await write(node)
        async with user_stub(space, node, "wang", UserRole.AUDITOR) as stub:
            answer = await stub.ListEntries(
                log_pb2.ListEntriesRequest(kind="membership", page_size=2), timeout=5
            )
            assert [one.index for one in answer.entries] == [
                node.ledger.size - 1,
                node.ledger.size - 2,
            ]
            assert (await stub.GetEntry(log_pb2.GetEntryRequest(index=0), timeout=5)).receipt
        async with user_stub(space, node, "li", UserRole.ANALYST) as stub:
            assert (await stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5)).checkpoint
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListEntries(log_pb2.ListEntriesRequest(), timeout=5)
        assert from_rpc_error(caught.value, node.id).reason == "ROLE_REQUIRED"


async def test_revoked_user_is_refused_at_the_next_call(space):
    async with (
        space.running("operator") as node,
        user_stub(space, node, "li", UserRole.ANALYST) as stub,
    ):
        request = log_pb2.GetCheckpointRequest()
        await stub.GetCheckpoint(request, timeout=5)
        revoke_user(node.files.directory, "li", now=space.clock.now())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetCheckpoint(request, timeout=5)
        assert from_rpc_error(caught.value, node.id).reason == "CREDENTIAL_REVOKED"
        # Enrolled anew under the same name, the old certificate stays worthless.
        (space.path / "profile-li").rename(space.path / "old-profile")
        async with user_stub(space, node, "li", UserRole.ANALYST) as again:
            assert await again.GetCheckpoint(request, timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetCheckpoint(request, timeout=5)
        assert from_rpc_error(caught.value, node.id).reason == "CREDENTIAL_REVOKED"
