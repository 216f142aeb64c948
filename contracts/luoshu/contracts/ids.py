"""Identifiers: participants, users, products, contracts, requests.

Ids are ASCII and have exactly one spelling, so that comparing text compares
identity: no case folding, no Unicode, no percent-encoding. Space and
participant names are DNS labels, which makes the DNS name that peers dial an
injective image of the participant id.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

from luoshu.contracts.errors import DocumentError

_LABEL = re.compile(r"(?!xn--)[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_CONTRACT = re.compile(f"urn:luoshu:contract:{_UUID4}")
_REQUEST = re.compile(f"urn:uuid:{_UUID4}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DNS_SUFFIX = "luoshu.internal"
# Contract ids share the prefix; a space of this name would make ids ambiguous.
_RESERVED_SPACES = frozenset({"contract"})


class ParticipantName(NamedTuple):
    """The two labels of a participant id."""

    space: str
    name: str


class UserName(NamedTuple):
    """A user id taken apart."""

    participant_id: str
    user: str


class ProductName(NamedTuple):
    """A product id taken apart; ``participant_id`` is the holder's."""

    participant_id: str
    local_id: str


def check_label(text: str, what: str = "a name") -> str:
    """Returns ``text`` if it is a DNS label of 1 to 40 characters.

    Lower-case letters, digits and inner hyphens; no internationalised (``xn--``) label.

    Raises:
        DocumentError: It is not.
    """
    if _LABEL.fullmatch(text) is None:
        raise DocumentError(f"{what} must be 1 to 40 lower-case letters, digits and inner hyphens")
    return text


def check_space(text: str) -> str:
    """Returns ``text`` if it can name a space.

    Raises:
        DocumentError: It is not a label, or reserved.
    """
    if check_label(text, "a space name") in _RESERVED_SPACES:
        raise DocumentError("this space name is reserved: choose another")
    return text


def participant_id(space: str, name: str) -> str:
    """Builds ``urn:luoshu:<space>:<name>``."""
    return f"urn:luoshu:{check_space(space)}:{check_label(name, 'a participant name')}"


def parse_participant_id(text: str) -> ParticipantName:
    """Takes a participant id apart.

    Raises:
        DocumentError: It is not of the form that `participant_id` builds.
    """
    parts = text.split(":")
    if len(parts) != 4 or parts[:2] != ["urn", "luoshu"]:
        raise DocumentError("a participant id must be urn:luoshu:<space>:<name>")
    check_space(parts[2])
    check_label(parts[3], "a participant name")
    return ParticipantName(parts[2], parts[3])


def dns_name(participant: str) -> str:
    """The DNS SAN and TLS target name of a participant: ``<name>.<space>.luoshu.internal``."""
    space, name = parse_participant_id(participant)
    return f"{name}.{space}.{_DNS_SUFFIX}"


def participant_of_dns_name(name: str) -> str:
    """The inverse of `dns_name`.

    Raises:
        DocumentError: Not a name that `dns_name` gives.
    """
    parts = name.split(".")
    if len(parts) != 4 or ".".join(parts[2:]) != _DNS_SUFFIX:
        raise DocumentError(f"a participant's DNS name must be <name>.<space>.{_DNS_SUFFIX}")
    return participant_id(parts[1], parts[0])


def user_id(participant: str, user: str) -> str:
    """Builds ``<participant id>:user:<user>``."""
    parse_participant_id(participant)
    return f"{participant}:user:{check_label(user, 'a user name')}"


def parse_user_id(text: str) -> UserName:
    """Takes a user id apart.

    Raises:
        DocumentError: It is not of the form that `user_id` builds.
    """
    participant, separator, user = text.rpartition(":user:")
    if not separator:
        raise DocumentError("a user id must be urn:luoshu:<space>:<name>:user:<user>")
    parse_participant_id(participant)
    return UserName(participant, check_label(user, "a user name"))


def product_id(participant: str, local_id: str) -> str:
    """Builds ``<holder's participant id>:product:<local id>``."""
    parse_participant_id(participant)
    return f"{participant}:product:{check_label(local_id, 'a local product id')}"


def parse_product_id(text: str) -> ProductName:
    """Takes a product id apart.

    Raises:
        DocumentError: It is not of the form that `product_id` builds.
    """
    participant, separator, local_id = text.rpartition(":product:")
    if not separator:
        raise DocumentError("a product id must be urn:luoshu:<space>:<holder>:product:<id>")
    parse_participant_id(participant)
    return ProductName(participant, check_label(local_id, "a local product id"))


def contract_id(uuid: UUID) -> str:
    """Builds a contract id from a random (version 4) UUID."""
    return check_contract_id(f"urn:luoshu:contract:{uuid}")


def check_contract_id(text: str) -> str:
    """Returns ``text`` if it is a contract id.

    Raises:
        DocumentError: It is not.
    """
    if _CONTRACT.fullmatch(text) is None:
        raise DocumentError("a contract id must be urn:luoshu:contract:<random UUID>")
    return text


def request_id(uuid: UUID) -> str:
    """Builds a request id from a random (version 4) UUID."""
    return check_request_id(f"urn:uuid:{uuid}")


def check_request_id(text: str) -> str:
    """Returns ``text`` if it is a request id.

    Raises:
        DocumentError: It is not.
    """
    if _REQUEST.fullmatch(text) is None:
        raise DocumentError("a request id must be urn:uuid:<random UUID>")
    return text


def check_digest(text: str) -> str:
    """Returns ``text`` if it is a digest as `luoshu.contracts.canonical.digest` writes it.

    Raises:
        DocumentError: It is not.
    """
    if _DIGEST.fullmatch(text) is None:
        raise DocumentError("a digest must be sha256:<64 lower-case hexadecimal digits>")
    return text
