"""A product of the space's catalog, verified."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from luoshu.contracts.canonical import JsonValue
from luoshu.contracts.catalog import verify_catalog_entry
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.membership import MembershipCredential, SpaceTrust, verify_credential
from luoshu.contracts.product import CatalogEntry, Offer
from luoshu.sdk.errors import InvalidRequestError, VerificationError
from luoshu.sdk.rpc.messages import EntryAnswer


class Product:
    """What a holder offers, as it signed it.

    Attributes:
        entry: The signed entry: columns, release floor, classification, offers.
        digest: Names this version of the entry; a contract refers to it.
        credential: The issuer's membership credential.
    """

    def __init__(self, entry: CatalogEntry, digest: str, credential: MembershipCredential) -> None:
        self.entry = entry
        self.digest = digest
        self.credential = credential

    @property
    def id(self) -> str:
        """Product id."""
        return self.entry.id

    @property
    def issuer(self) -> str:
        """Participant id of the holder."""
        return self.entry.issuer

    @property
    def title(self) -> Mapping[str, str]:
        """Title by language, `en` and `zh`; one of them may be empty."""
        return {"en": self.entry.title.en, "zh": self.entry.title.zh}

    @property
    def offers(self) -> tuple[Offer, ...]:
        """Under what terms the holder makes contracts."""
        return self.entry.offers

    def offer(self, offer_id: str | None = None) -> Offer:
        """One offer: by id, or the only one there is.

        Raises:
            InvalidRequestError: No such offer, none at all, or several and no id.
        """
        known = ", ".join(offer.id for offer in self.offers)
        if offer_id is not None:
            for offer in self.offers:
                if offer.id == offer_id:
                    return offer
            raise InvalidRequestError(
                f"{self.id} has no offer {offer_id!r}.",
                next_step=f"Its offers are: {known}." if known else "It has no offers.",
            )
        if len(self.offers) == 1:
            return self.offers[0]
        raise InvalidRequestError(
            f"{self.id} has {len(self.offers)} offers.",
            next_step=f"Name one of: {known}." if known else "Ask its holder for an offer.",
        )

    def summary(self) -> dict[str, JsonValue]:
        """Plain facts, as the CLI prints them: the signed entry and its digest."""
        payload = dict(self.entry.to_payload())
        payload.pop("schema", None)
        return {**payload, "digest": self.digest, "verified": True}

    def __repr__(self) -> str:
        """Id and title."""
        title = self.entry.title.in_language("en")
        return f"<Product {self.id} v{self.entry.version}: {title}>"


def verify_product(
    answer: EntryAnswer, trust: SpaceTrust, now: dt.datetime, product_id: str | None = None
) -> Product:
    """Checks who issued an entry before anything of it is believed.

    The catalog is the operator's, the signature the holder's: the issuer's
    credential must be the authority's, and the entry must be the issuer's own.

    Args:
        answer: What the node passed on.
        trust: The space's trust anchor.
        now: Aware UTC.
        product_id: The product that was asked for.

    Raises:
        VerificationError: The entry can't be relied on.
    """
    try:
        issuer = verify_credential(Envelope.from_bytes(answer.issuer_credential), trust, now)
        envelope = Envelope.from_bytes(answer.entry_envelope)
        entry = verify_catalog_entry(envelope, issuer, now)
    except ContractsError as error:
        raise VerificationError(
            f"A catalog entry doesn't verify: {error}", reason="ENTRY_INVALID"
        ) from error
    if product_id is not None and entry.id != product_id:
        raise VerificationError(
            f"The catalog answered with another product than {product_id}.",
            reason="ENTRY_INVALID",
        )
    return Product(entry, envelope.digest, issuer)
