"""The data space, as one user sees it through its own node."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from luoshu.contracts.canonical import JsonValue, canonicalize
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.membership import (
    MembershipCredential,
    open_user_credential,
    verify_credential,
)
from luoshu.contracts.terms import Terms
from luoshu.sdk.contract import Actor, Contract
from luoshu.sdk.errors import (
    DeadlineError,
    ProfileError,
    VerificationError,
)
from luoshu.sdk.offers import offers_document
from luoshu.sdk.product import Product, verify_product
from luoshu.sdk.profile import Profile, load_profile
from luoshu.sdk.rpc.channel import open_channel
from luoshu.sdk.rpc.client import NodeClient
from luoshu.sdk.rpc.messages import ContractSummary, LocalProduct, NodeAnswer
from luoshu.sdk.terms import Wish, as_list
from luoshu.sdk.usage_log import UsageLog

_PAGE = 50


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing gave.

    Attributes:
        product_id: Space-wide id of the product.
        version: Version of the entry.
        log_index: Index of the entry in the operator's log that records it.
    """

    product_id: str
    version: int
    log_index: int


def connect(
    profile: Path | str | None = None,
    *,
    timeout: float = 30.0,
    clock: Callable[[], dt.datetime] = _now,
) -> DataSpace:
    """Connects a user to its own node.

    Args:
        profile: Directory that `luoshu user add` made; without it, the one that
            LUOSHU_PROFILE names.
        timeout: Seconds allowed per call that doesn't wait for others.
        clock: Aware UTC; for tests.

    Returns:
        The space; use it as a context manager, or `close` it.

    Raises:
        ProfileError: The profile is missing or unusable, its certificate expired, or
            of another node.
        UnavailableError: The node doesn't answer.
        VerificationError: The node is not who the profile says.
    """
    loaded = load_profile(profile)
    loaded.check_certificate(clock())
    channel = open_channel(
        loaded.address,
        server_name=loaded.server_name,
        certificate_pem=loaded.certificate_pem,
        private_key_pem=loaded.private_key_pem,
        node_ca_pem=loaded.node_ca_pem,
    )
    client = NodeClient(
        channel, timeout=timeout, explain_unreachable=lambda why: explain(loaded, clock(), why)
    )
    try:
        return DataSpace(loaded, client, clock)
    except BaseException:
        client.close()
        raise


class DataSpace:
    """A connection of one user to its node; made by `connect`.

    Attributes:
        name: Name of the space.
        participant_id: The user's organisation.
        user_id: The user.
        log: The own node's usage log.
    """

    def __init__(
        self, profile: Profile, client: NodeClient, clock: Callable[[], dt.datetime]
    ) -> None:
        self._client = client
        self._clock = clock
        self._trust = profile.trust
        member = self._own_credential()
        try:
            user = open_user_credential(profile.user_credential, member.keys_for(KeyUse.EVENTS))
        except ContractsError as error:
            raise ProfileError(
                f"The profile's user credential is not of this node: {error}"
            ) from error
        if user.participant_id != member.participant_id:
            raise ProfileError("The profile's user credential names another organisation.")
        if user.request_key != profile.request_key.public:
            raise ProfileError("The profile's request key is not the one that was enrolled.")
        if not user.is_valid_at(clock()):
            raise ProfileError(
                "The profile's user credential has expired.", reason="CREDENTIAL_EXPIRED"
            )
        self.name = self._trust.space
        self.participant_id = member.participant_id
        self.user_id = user.user_id
        self.log = UsageLog(client, self._own_credential)
        self._actor = Actor(
            participant_id=member.participant_id,
            trust=self._trust,
            user_credential=profile.user_credential,
            user=user,
            request_key=profile.request_key,
            clock=clock,
        )

    def __enter__(self) -> Self:
        """The space itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the connection."""
        self.close()

    def __repr__(self) -> str:
        """Space and user."""
        return f"<DataSpace {self.name} as {self.user_id}>"

    def close(self) -> None:
        """Ends every call under way and closes the connection."""
        self._client.close()

    def node(self) -> NodeAnswer:
        """What the own node is and how it fares, in its own words."""
        return self._client.get_node()

    # Find

    def search(
        self,
        text: str = "",
        *,
        filters: Mapping[str, str | Sequence[str]] | None = None,
        limit: int | None = None,
    ) -> Iterator[Product]:
        """Products, best match first; each entry is verified before it is yielded.

        Args:
            text: Chinese or English words; empty lists everything visible.
            filters: Field to accepted value or values: issuer, level,
                personal_information, theme, release_mode.
            limit: At most so many.

        Raises:
            VerificationError: An entry can't be relied on.
            InvalidRequestError: The node doesn't know a filter's field.
        """
        wanted = {field: as_list(value) or () for field, value in (filters or {}).items()}
        token, left = "", limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._client.search(text, wanted, size, token)
            for entry in page.entries[:size]:
                yield verify_product(entry, self._trust, self._clock())
            token = page.next_page_token
            if not token or not page.entries:
                return
            left = None if left is None else left - len(page.entries)

    def product(self, product_id: str) -> Product:
        """One product, verified.

        Raises:
            NotFoundError: Unknown, or not yours to see.
            VerificationError: The entry can't be relied on.
        """
        answer = self._client.get_entry(product_id)
        return verify_product(answer, self._trust, self._clock(), product_id)

    # Agree

    def negotiate(
        self,
        product: Product | str,
        offer: str | None = None,
        *,
        purpose: str | Sequence[str] | None = None,
        uses: int | None = None,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        regions: Sequence[str] | None = None,
        min_units: int | None = None,
        release: Mapping[str, object] | None = None,
        terms: Terms | None = None,
        wait: float = 60.0,
    ) -> Contract:
        """Asks a holder for a contract and waits for its answer.

        What isn't named is taken from the offer.

        Args:
            product: The product or its id.
            offer: Offer id; may be left out if there is only one.
            purpose: What the results are for, one or several.
            uses: How many computations.
            not_before: Aware UTC.
            not_after: Aware UTC.
            regions: Jurisdictions, ISO 3166.
            min_units: Distinct units that a released group needs; never below the floor.
            release: Stricter release rules by name: jitter, dominance, scope, debits.
            terms: Whole terms, instead of the single ones above.
            wait: Seconds to wait for the answer. An offer that is answered by hand may
                take longer: the contract is then returned in state REQUESTED, and
                `contract.wait()` goes on waiting.

        Returns:
            The contract: ACTIVE; OFFERED, if there is a counter-offer to `accept`;
            TERMINATED, if the holder refused (`contract.reason` says why); REQUESTED.

        Raises:
            InvalidRequestError: No such offer, or terms that can't be asked for.
            VerificationError: The contract that came isn't what was asked for.
        """
        if isinstance(product, str):
            product = self.product(product)
        chosen = product.offer(offer)
        wish = Wish(as_list(purpose), uses, not_before, not_after, regions, min_units, release)
        if terms is None and not wish.is_empty:
            terms = wish.over(chosen.terms)
        asked = b"" if terms is None else canonicalize(terms.to_payload())
        summary = self._client.request_contract(product.id, chosen.id, asked)
        contract = Contract(self._client, summary.contract_id, self._actor)
        if (
            contract.product_id != product.id
            or contract.provider != product.issuer
            or contract.consumer != self.participant_id
            or contract.signed_state.offer_id != chosen.id
            or contract.signed_state.entry != product.digest
        ):
            raise VerificationError(
                "The node made another contract than the one asked for, or of another version "
                "of the product's entry.",
                reason="CONTRACT_INVALID",
            )
        if contract.requested_terms() != (terms or chosen.terms):
            raise VerificationError(
                "The node asked for other terms in your name.", reason="CONTRACT_INVALID"
            )
        try:
            return contract.wait(wait)
        except DeadlineError:
            return contract

    def contract(self, contract_id: str) -> Contract:
        """One contract, folded from its signed events.

        Raises:
            NotFoundError: Unknown, or the own organisation is no party.
            VerificationError: Its events don't verify.
        """
        return Contract(self._client, contract_id, self._actor)

    def contracts(self, *, state: str = "") -> tuple[ContractSummary, ...]:
        """The node's contracts, newest first, in the node's words; `contract` verifies one.

        Args:
            state: Keep only those in this negotiation or agreement state.
        """
        return self._client.list_contracts(state)

    # Holders

    def publish(self, product: str, offers: JsonValue) -> Published:
        """Publishes a prepared product with offers.

        Args:
            product: Local id, as in the product file.
            offers: A list of offers, as `luoshu.sdk.offers` describes them.

        Raises:
            InvalidRequestError: An offer is malformed.
        """
        document = offers_document(offers)
        return Published(*self._client.publish(product, document))

    def withdraw(self, product_id: str) -> int:
        """Withdraws an entry; returns the index in the operator's log."""
        return self._client.withdraw(product_id)

    def local_products(self) -> tuple[LocalProduct, ...]:
        """Products prepared on the own node."""
        return self._client.list_products()

    # Operators

    def members(self) -> tuple[MembershipCredential, ...]:
        """Members of the space, each credential verified.

        Raises:
            VerificationError: A credential isn't the authority's.
        """
        return tuple(self._verified(data) for data in self._client.list_members())

    def revoke_member(self, participant_id: str, reason: str) -> int:
        """Operator: revokes a member; returns the status list's new version."""
        return self._client.revoke_member(participant_id, reason)

    # Inside

    def _verified(self, credential: bytes) -> MembershipCredential:
        try:
            return verify_credential(Envelope.from_bytes(credential), self._trust, self._clock())
        except ContractsError as error:
            raise VerificationError(
                f"A membership credential doesn't verify: {error}",
                reason=error.reason,
                next_step="Tell the operator of the space.",
            ) from error

    def _own_credential(self) -> MembershipCredential:
        return self._verified(self._client.get_node().membership_credential)


def explain(profile: Profile, now: dt.datetime, details: str) -> str:
    """Why nobody answered, as far as this side can tell.

    Raises:
        ProfileError: It is the own certificate.
    """
    profile.check_certificate(now)
    words = details.lower()
    where = f"Your node at {profile.address}"
    if "connection refused" in words:
        return f"{where} isn't running there: the connection was refused."
    if "verif" in words:
        return (
            f"The server at {profile.address} couldn't prove to be {profile.server_name}: another "
            "server answers there, or the node's CA has changed."
        )
    if any(word in words for word in ("ssl", "handshake", "closed", "reset", "broken pipe")):
        return (
            f"{where} closed the connection. Your certificate is within its validity and of the "
            "profile's CA, so most likely the node refuses it (`luoshu user list` there shows "
            "who is enrolled), or another server answers at that address."
        )
    return f"{where} doesn't answer."
