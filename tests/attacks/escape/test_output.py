"""The result channel: whatever a taken-over worker sends, the connector drops it and goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from escape_world import Prison

from luoshu.sandbox.isolation.port import WorkerError

pytestmark = pytest.mark.system


def raw(data: bytes) -> str:
    # The worker's output under its standard error's number was closed; the channel holds it.
    return f"""
        import gc
        (channel,) = [o for o in gc.get_objects() if type(o).__name__ == "Channel"]
        os.write(channel._out.fileno(), {data!r})
    """


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0\0\x05[1,2]",
        b'\0\0\0\x08{"a":1.5',
        b'\0\0\0\x09{"a":NaN}',
        b'\0\0\0\x0d{"a":1,"a":2}',
        b"\0\0\0\x02\xff\xfe",
        b"\0\0\x10\x00" + b"[" * 4096,
        b'\0\0\0\x10{"a":"\\ud800"}  ',
        b"\0\0\0\x00",
    ],
)
async def test_malformed_answer_is_dropped(prison: Prison, data: bytes) -> None:
    worker = await prison.hold(raw(data))
    with pytest.raises(WorkerError):
        await worker.receive()
    await worker.stop()


async def test_oversized_answer_is_dropped(prison: Prison) -> None:
    limits = replace(prison.wall.config.limits, frame_bytes=1000)
    worker = await prison.hold(raw((1 << 30).to_bytes(4, "big") + bytes(4096)), limits=limits)
    with pytest.raises(WorkerError, match="larger than its limit"):
        await worker.receive()
    await worker.stop()


@pytest.mark.parametrize("part", ["[]", "{}", '{"":[]}'])
async def test_answer_of_countless_parts_is_dropped_unparsed(prison: Prison, part: str) -> None:
    # Within the limit of bytes, it took 1.7 GiB and 7 seconds in which the connector stood still.
    payload = (
        raw(b"")
        + f"""
        parts = b'{part},' * ((60 << 20) // {len(part) + 1})
        answer = b'{{"a":[' + parts + b'0]}}'
        rest = memoryview(len(answer).to_bytes(4, "big") + answer)
        while rest:
            rest = rest[os.write(channel._out.fileno(), rest):]
    """
    )
    worker = await prison.hold(payload)
    with pytest.raises(WorkerError, match="too many parts"):
        await worker.receive()
    await worker.stop()


async def test_truncated_answer_is_dropped(prison: Prison) -> None:
    worker = await prison.hold(raw((100).to_bytes(4, "big") + b'{"a":'))
    with pytest.raises(WorkerError, match="ended before it answered"):
        await worker.receive()
    await worker.stop()


async def test_flooded_error_stream_is_bounded_and_blocks_nobody(prison: Prison) -> None:
    payload = """
        for _ in range(256):
            os.write(2, b"x" * 65536)
        tell("done")
        time.sleep(60)
    """
    worker = await prison.hold(payload)
    assert (await worker.receive())["said"] == "done"
    assert len((await worker.stop()).log) <= prison.wall.config.limits.log_bytes


async def test_error_stream_moves_nothing_on_the_terminal(prison: Prison) -> None:
    payload = """
        os.write(2, b"\\x1b]0;title\\x07\\x1b[2J\\xff\\x9b2Jforged\\r\\n\\xe2\\x80\\xaeline")
        tell(1)
        time.sleep(60)
    """
    worker = await prison.hold(payload)
    await worker.receive()
    log = (await worker.stop()).log
    assert "forged" in log
    assert all(line.isprintable() for line in log.split("\n"))


async def test_flooded_input_is_refused(prison: Prison) -> None:
    # Standard input is a socket: what a worker writes there ends the talk with it.
    payload = """
        os.write(0, b"x" * 100)
        tell("wrote")
        time.sleep(60)
    """
    worker = await prison.hold(payload)
    with pytest.raises(WorkerError):
        for _ in range(1000):
            await worker.receive()
            await worker.send({"more": "x" * 100_000})
    await worker.stop()


async def test_more_answers_than_asked_for_wait_unread(prison: Prison) -> None:
    payload = """
        while True:
            tell("x" * 1000)
    """
    worker = await prison.hold(payload)
    await worker.receive()
    end = await worker.stop()
    assert end.status == "signal SIGKILL"


async def test_descriptors_can_not_be_sent_back(prison: Prison) -> None:
    payload = """
        tell(attempt(lambda: socket.send_fds(socket.socket(fileno=0), [b"x"], [1])))
    """
    assert await prison.run(payload) == ["failed", "EPERM"]
