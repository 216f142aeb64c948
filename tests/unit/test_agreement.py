"""The agreement machine: uses, suspension and the ways it ends."""

from datetime import timedelta

import pytest
from contract_world import (
    ANALYST,
    CONTRACT,
    HOLDER,
    NOW,
    REQUEST_KEY,
    THIRD,
    Dealings,
    EmptyBody,
    key,
    request,
    terms,
    use_body,
    user_credential,
    uuid,
)

from luoshu.contracts import ids
from luoshu.contracts.contract import AgreementState, EventType, UseBody, fold
from luoshu.contracts.contract.agreement import (
    AGREEMENT_TRANSITIONS,
    LIVE_AGREEMENT_STATES,
    perform,
)
from luoshu.contracts.errors import TransitionError
from luoshu.contracts.keys import KeyUse

A = AgreementState
E = EventType


def reason_of(call: object) -> str:
    with pytest.raises(TransitionError) as caught:
        call()  # type: ignore[operator]
    return caught.value.reason


def test_every_pair_of_state_and_event_is_decided() -> None:
    for state in (None, *A):
        for event in E:
            if (state, event) in AGREEMENT_TRANSITIONS:
                assert perform(state, event) is AGREEMENT_TRANSITIONS[state, event]  # type: ignore[index]
            else:
                expected = (
                    "CONTRACT_NOT_ACTIVE" if event is E.USE else "CONTRACT_TRANSITION_INVALID"
                )
                assert reason_of(lambda s=state, e=event: perform(s, e)) == expected
    assert {state for state, _ in AGREEMENT_TRANSITIONS} == LIVE_AGREEMENT_STATES
    assert set(AGREEMENT_TRANSITIONS.values()) == set(A)


def test_uses_are_counted_once_each_up_to_the_terms() -> None:
    dealings = Dealings().negotiated()
    for n in range(3):
        assert dealings.use(str(n)).uses == n + 1
    assert reason_of(lambda: dealings.use("3")) == "USES_EXHAUSTED"
    assert reason_of(lambda: Dealings().negotiated(terms(uses=1)).accept()) == (
        "CONTRACT_TRANSITION_INVALID"
    )
    state = dealings.do(HOLDER, E.COMPLETE, EmptyBody())
    assert state.agreement is A.COMPLETED
    assert fold(dealings.events, dealings.keys).state_hash == state.state_hash


def test_a_contract_completes_only_when_used_up() -> None:
    dealings = Dealings().negotiated()
    dealings.use()
    assert reason_of(lambda: dealings.do(HOLDER, E.COMPLETE, EmptyBody())) == (
        "CONTRACT_TRANSITION_INVALID"
    )
    unlimited = Dealings().negotiated(terms(uses=None))
    assert reason_of(lambda: unlimited.do(HOLDER, E.COMPLETE, EmptyBody())) == (
        "CONTRACT_TRANSITION_INVALID"
    )


def test_a_request_debits_once() -> None:
    dealings = Dealings().negotiated()
    dealings.use("again")
    assert reason_of(lambda: dealings.use("again")) == "CONTRACT_EVENT_REPLAYED"


def test_suspension_stops_uses_until_resumed() -> None:
    dealings = Dealings().negotiated()
    assert dealings.reasoned(HOLDER, E.SUSPEND, "why").agreement is A.SUSPENDED
    assert reason_of(dealings.use) == "CONTRACT_NOT_ACTIVE"
    assert reason_of(lambda: dealings.reasoned(HOLDER, E.SUSPEND)) == "CONTRACT_TRANSITION_INVALID"
    assert dealings.reasoned(HOLDER, E.RESUME).is_active
    assert dealings.use().uses == 1


@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize(
    ("member", "event", "after"),
    [
        (HOLDER, E.REVOKE, A.REVOKED),
        (HOLDER, E.END, A.ENDED),
        (ANALYST, E.END, A.ENDED),
    ],
)
def test_an_ended_contract_stays_ended(
    suspended: bool, member: object, event: EventType, after: AgreementState
) -> None:
    dealings = Dealings().negotiated()
    if suspended:
        dealings.reasoned(HOLDER, E.SUSPEND)
    state = dealings.reasoned(member, event, "why")  # type: ignore[arg-type]
    assert (state.agreement, state.reason) == (after, "why")
    assert reason_of(dealings.use) == "CONTRACT_NOT_ACTIVE"
    for again in (E.RESUME, E.SUSPEND, E.REVOKE, E.END):
        assert reason_of(lambda e=again: dealings.reasoned(HOLDER, e)) == (
            "CONTRACT_TRANSITION_INVALID"
        )


def test_a_contract_expires_when_its_time_is_over_and_not_before() -> None:
    end = NOW + timedelta(seconds=30)
    dealings = Dealings().negotiated(terms(not_after=end))
    assert reason_of(lambda: dealings.do(HOLDER, E.EXPIRE, EmptyBody())) == (
        "CONTRACT_TRANSITION_INVALID"
    )
    dealings.now = end
    assert reason_of(dealings.use) == "CONTRACT_NOT_ACTIVE"
    assert dealings.do(HOLDER, E.EXPIRE, EmptyBody()).agreement is A.EXPIRED
    endless = Dealings().negotiated(terms(not_after=None))
    endless.now = NOW + timedelta(days=100)
    assert reason_of(lambda: endless.do(HOLDER, E.EXPIRE, EmptyBody())) == (
        "CONTRACT_TRANSITION_INVALID"
    )


def test_no_use_before_the_contract_begins() -> None:
    dealings = Dealings().negotiated(terms(not_before=NOW + timedelta(hours=1)))
    assert reason_of(dealings.use) == "CONTRACT_NOT_ACTIVE"


def test_no_use_before_it_is_finalised() -> None:
    dealings = Dealings()
    dealings.request()
    assert reason_of(dealings.use) == "CONTRACT_NOT_ACTIVE"
    assert reason_of(lambda: dealings.reasoned(HOLDER, E.REVOKE)) == "CONTRACT_TRANSITION_INVALID"


def _use(dealings: Dealings, body: UseBody) -> str:
    return reason_of(lambda: dealings.do(HOLDER, E.USE, body))


def test_a_use_embeds_the_consumers_users_own_request() -> None:
    dealings = Dealings().negotiated()
    asked = request(issued_at=dealings.now)
    signed = asked.sign(REQUEST_KEY)
    user = user_credential().sign(ANALYST.events)

    # the provider's own user, or a third member's
    for member in (HOLDER, THIRD):
        own = key(f"{member.name}/ada", KeyUse.REQUEST)
        theirs = request(user_id=ids.user_id(member.id, "ada"), issued_at=dealings.now).sign(own)
        credential = user_credential(member).sign(member.events)
        assert _use(dealings, UseBody(theirs, credential, 1)) == "CREDENTIAL_INVALID"
    # a credential that the provider made up
    assert (
        _use(dealings, UseBody(signed, user_credential().sign(HOLDER.events), 1))
        == "CREDENTIAL_INVALID"
    )
    # a request that the provider made up
    forged = asked.sign(key("north/forged", KeyUse.REQUEST))
    assert _use(dealings, UseBody(forged, user, 1)) == "REQUEST_SIGNATURE_INVALID"
    # the two exchanged
    assert _use(dealings, UseBody(user, signed, 1)) == "CREDENTIAL_INVALID"
    # an ended credential
    ended = user_credential(not_after=NOW).sign(ANALYST.events)
    assert _use(dealings, UseBody(signed, ended, 1)) == "CREDENTIAL_EXPIRED"
    # and the honest one
    assert dealings.do(HOLDER, E.USE, UseBody(signed, user, 1)).uses == 1


def test_a_member_cannot_enrol_its_user_under_anothers_name() -> None:
    dealings = Dealings().negotiated()
    own = key("west/ada", KeyUse.REQUEST)
    # signed by the consumer, but about a third member's user
    credential = user_credential(THIRD).sign(ANALYST.events)
    asked = request(user_id=ids.user_id(THIRD.id, "ada"), issued_at=dealings.now).sign(own)
    assert _use(dealings, UseBody(asked, credential, 1)) == "CONTRACT_WRONG_PARTY"


def test_a_request_for_another_contract_is_not_billable() -> None:
    dealings = Dealings().negotiated()
    other = ids.contract_id(uuid("another contract"))
    assert other != CONTRACT
    body = use_body(request(contract_id=other, issued_at=dealings.now))
    assert _use(dealings, body) == "REQUEST_SIGNATURE_INVALID"


@pytest.mark.parametrize("age", [timedelta(minutes=6), timedelta(seconds=-90)])
def test_a_stale_request_is_not_billable(age: timedelta) -> None:
    dealings = Dealings().negotiated()
    body = use_body(request(issued_at=dealings.now - age))
    assert _use(dealings, body) == "REQUEST_TIME_SKEW"
