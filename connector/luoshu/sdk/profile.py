"""The directory that `luoshu user add` hands to a user.

It holds all a user needs and nothing of others: the node's address, the TLS
certificate and key of the user, the key that signs requests, the user
credential, the trust anchor of the space and the certificate of the node's CA.

The certificate is checked here before a node is dialled: a refused TLS
handshake reaches a client as a closed socket that explains nothing.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership import SpaceTrust
from luoshu.sdk.errors import ProfileError

PROFILE_VARIABLE = "LUOSHU_PROFILE"


class ProfileFile(BaseModel):
    """`profile.toml`: where the user's own node is.

    Attributes:
        address: `host:port` of the node's user API.
        server_name: DNS name that the node's certificate must carry.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(min_length=3, pattern=r"^\S+:\d+$")
    server_name: str = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Profile:
    """A loaded profile.

    Attributes:
        directory: Where it was read.
        trust: The space's trust anchor: the authority key all else hangs on.
        user_credential: Envelope by the organisation's events key, as enrolled.
        request_key: Signs the user's requests.
    """

    directory: Path
    address: str
    server_name: str
    certificate_pem: bytes
    private_key_pem: bytes
    node_ca_pem: bytes
    trust: SpaceTrust
    user_credential: Envelope
    request_key: SigningKey

    def check_certificate(self, now: dt.datetime) -> x509.Certificate:
        """Says what is wrong with the own certificate before anybody is dialled.

        Args:
            now: Aware UTC.

        Raises:
            ProfileError: Expired, not yet valid, not of this node's CA, or not
                the certificate of the private key.
        """
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_pem)
            authority = x509.load_pem_x509_certificate(self.node_ca_pem)
            key = load_pem_private_key(self.private_key_pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ProfileError(
                f"The profile {self.directory} holds a certificate or key that can't be read."
            ) from error
        if now < certificate.not_valid_before_utc:
            raise ProfileError(
                "Your certificate is not valid before "
                f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC.",
                next_step="Check this machine's clock.",
            )
        if now > certificate.not_valid_after_utc:
            raise ProfileError(
                "Your certificate expired on "
                f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.",
                reason="CREDENTIAL_EXPIRED",
            )
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
            raise ProfileError("tls.key is not the key of tls.crt.")
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise ProfileError(
                "Your certificate was not issued by the CA of the node that the profile names.",
                reason="WRONG_SPACE",
            ) from error
        return certificate


def find_profile(profile: Path | str | None) -> Path:
    """The profile directory: the argument, else LUOSHU_PROFILE.

    Raises:
        ProfileError: Neither is given.
    """
    chosen = profile or os.environ.get(PROFILE_VARIABLE)
    if not chosen:
        raise ProfileError(
            "No profile was given.",
            reason="CREDENTIAL_MISSING",
        )
    return Path(chosen).expanduser()


def load_profile(profile: Path | str | None = None) -> Profile:
    """Reads a profile directory.

    Args:
        profile: The directory; without it, the one LUOSHU_PROFILE names.

    Raises:
        ProfileError: A file is missing or unreadable, or a private key is open
            to other users of this machine.
    """
    directory = find_profile(profile)
    if not directory.is_dir():
        raise ProfileError(
            f"There is no profile directory {directory}.", reason="CREDENTIAL_MISSING"
        )
    settings = _settings(directory)
    try:
        return Profile(
            directory=directory,
            address=settings.address,
            server_name=settings.server_name,
            certificate_pem=_read(directory, "tls.crt"),
            private_key_pem=_read(directory, "tls.key", private=True),
            node_ca_pem=_read(directory, "node-ca.crt"),
            trust=SpaceTrust.from_bytes(_read(directory, "space.json")),
            user_credential=Envelope.from_bytes(_read(directory, "user.json")),
            request_key=SigningKey.from_pem(
                _read(directory, "request.key", private=True), KeyUse.REQUEST
            ),
        )
    except ContractsError as error:
        raise ProfileError(f"The profile {directory} can't be used: {error}") from error


def _settings(directory: Path) -> ProfileFile:
    try:
        return ProfileFile.model_validate(tomllib.loads(_read(directory, "profile.toml").decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{directory / 'profile.toml'} is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ProfileError(f"{directory / 'profile.toml'}: {key}: {first['msg']}.") from error


def _read(directory: Path, name: str, *, private: bool = False) -> bytes:
    path = directory / name
    try:
        if private and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ProfileError(
                f"{path} can be read by other users of this machine.",
                next_step=f"Run: chmod 600 {path}",
            )
        return path.read_bytes()
    except OSError as error:
        raise ProfileError(f"The profile lacks {path}: {error.strerror}.") from error
