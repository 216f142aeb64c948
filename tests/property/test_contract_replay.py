"""Folding what was verified before comes to the same state as verifying it again."""

from contract_world import ANALYST, HOLDER, Dealings, terms
from hypothesis import given, settings
from hypothesis import strategies as st

from luoshu.connector.contract.replay import replayed
from luoshu.contracts.contract import EventType, Position, unverified_event
from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.errors import TransitionError

STEPS = st.sampled_from(
    [
        lambda d: d.request(),
        lambda d: d.counter(terms(uses=2)),
        lambda d: d.accept(),
        lambda d: d.agree(),
        lambda d: d.verify(),
        lambda d: d.finalize(),
        lambda d: d.use(f"use {len(d.events)}"),
        lambda d: d.reasoned(HOLDER, EventType.SUSPEND, "why"),
        lambda d: d.reasoned(HOLDER, EventType.RESUME),
        lambda d: d.reasoned(HOLDER, EventType.REVOKE, "over"),
        lambda d: d.reasoned(ANALYST, EventType.END),
        lambda d: d.reasoned(ANALYST, EventType.TERMINATE),
    ]
)


@given(finalized=st.booleans(), steps=st.lists(STEPS, max_size=12))
@settings(deadline=None, max_examples=60)
def test_replay_equals_verification(finalized, steps):
    dealings = Dealings()
    if finalized:
        dealings.negotiated()
    for step in steps:
        try:
            step(dealings)
        except (TransitionError, AssertionError):
            continue
    state = None
    for sequenced in dealings.events:
        state = replayed(
            state,
            unverified_event(sequenced.event),
            Position.from_payload(unverified_payload(sequenced.position)),
            sequenced.position.digest,
        )
    assert state == dealings.state
