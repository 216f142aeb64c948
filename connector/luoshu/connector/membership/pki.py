"""X.509 for spaces and nodes: certificate authorities, requests, leaf certificates.

Two kinds of authority exist: the **space CA**, which certifies participants' TLS
keys, and each node's own **user CA**, which certifies that node's users and the
node's user-facing server. All keys are ECDSA P-256, because gRPC refuses Ed25519
certificates. Certificates follow RFC 5280; the identity is the URI subject
alternative name, the DNS name exists so that a client can dial the participant
by name whatever its address (RFC 9525).
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_VALIDITY = timedelta(days=3650)
LEAF_VALIDITY = timedelta(days=397)
BACKDATE = timedelta(minutes=5)
"""How far `not_before` lies in the past, so that small clock differences don't refuse."""


class PkiError(Exception):
    """A key, request or certificate is not what it must be; the text says which."""


class CertificateExpiredError(PkiError):
    """A certificate is outside its period of validity."""


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA's key and self-signed certificate, in memory."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def certificate_pem(self) -> bytes:
        """The CA certificate as PEM."""
        return certificate_to_pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        """The CA's private key as unencrypted PKCS #8 PEM."""
        return key_to_pem(self.key)


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Makes a new ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Returns the private key as unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def key_from_pem(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Reads an ECDSA P-256 private key.

    Raises:
        PkiError: If it is no such key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise PkiError("this is not an unencrypted PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PkiError("TLS keys must be ECDSA P-256")
    return key


def certificate_to_pem(certificate: x509.Certificate) -> bytes:
    """Returns the certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_from_pem(pem: bytes) -> x509.Certificate:
    """Reads one certificate.

    Raises:
        PkiError: If it is none, or its key is not ECDSA P-256.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        public = certificate.public_key()
    except ValueError as error:
        raise PkiError("this is not a PEM certificate") from error
    _require_p256(public)
    return certificate


def spki_der(public: ec.EllipticCurvePublicKey) -> bytes:
    """Returns the SubjectPublicKeyInfo of a public key, DER."""
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def certificate_spki(certificate: x509.Certificate) -> bytes:
    """Returns the SubjectPublicKeyInfo of a certificate's key, DER.

    Raises:
        PkiError: If the key is not ECDSA P-256.
    """
    return spki_der(_require_p256(certificate.public_key()))


def create_authority(common_name: str, now: datetime) -> CertificateAuthority:
    """Makes a CA that may sign leaf certificates only (path length 0)."""
    key = generate_key()
    name = _name(common_name)
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificateAuthority(key, certificate)


def load_authority(key_pem: bytes, certificate_pem: bytes) -> CertificateAuthority:
    """Reads a CA and checks that key and certificate belong together.

    Raises:
        PkiError: If they don't, or the certificate is not a CA's.
    """
    key = key_from_pem(key_pem)
    certificate = certificate_from_pem(certificate_pem)
    if spki_der(key.public_key()) != certificate_spki(certificate):
        raise PkiError("the CA certificate was not made for the CA key beside it")
    require_ca(certificate)
    return CertificateAuthority(key, certificate)


def require_ca(certificate: x509.Certificate) -> None:
    """Checks that a certificate is a self-signed CA's.

    Raises:
        PkiError: If it is not.
    """
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise PkiError("the certificate is not a CA certificate") from None
    if not constraints.ca:
        raise PkiError("the certificate is not a CA certificate")
    _require_issued_by(certificate, certificate)


def create_request(key: ec.EllipticCurvePrivateKey, uri: str, dns_name: str) -> bytes:
    """Makes a PKCS #10 request (RFC 2986) for `key`, PEM."""
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(dns_name))
        .add_extension(_alternative_names(uri, dns_name), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def read_request(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Reads a PKCS #10 request and returns the key it proves possession of.

    Names in the request are not returned: the issuer decides on names.

    Raises:
        PkiError: If it is malformed, not signed by its own key, or not P-256.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        signed = request.is_signature_valid
    except (ValueError, InvalidSignature) as error:
        raise PkiError("this is not a PEM certificate request") from error
    if not signed:
        raise PkiError("the certificate request is not signed by the key it names")
    return _require_p256(request.public_key())


def issue(
    authority: CertificateAuthority,
    public: ec.EllipticCurvePublicKey,
    *,
    uri: str,
    dns_name: str | None,
    server: bool,
    client: bool,
    not_before: datetime,
    not_after: datetime,
    addresses: tuple[str, ...] = (),
) -> bytes:
    """Issues a leaf certificate, PEM.

    Args:
        authority: The issuing CA.
        public: The key that the certificate is for.
        uri: The identity: participant or user id.
        dns_name: The TLS target name; None for users, whom nobody dials.
        server: Whether the holder may answer TLS connections (RFC 5280 §4.2.1.12).
        client: Whether the holder may open them.
        not_before: Aware UTC.
        not_after: Aware UTC.
        addresses: IP addresses under which a server may be dialled as well.

    Raises:
        PkiError: If the certificate would outlive its CA.
    """
    if not_after > authority.certificate.not_valid_after_utc:
        raise PkiError("the certificate would outlive its CA; ask for a shorter validity")
    uses = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
    uses += [ExtendedKeyUsageOID.CLIENT_AUTH] if client else []
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(dns_name or uri))
        .issuer_name(authority.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(_alternative_names(uri, dns_name, addresses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return certificate_to_pem(certificate)


def uri_of(certificate: x509.Certificate) -> str:
    """Returns the one URI among a certificate's alternative names.

    Raises:
        PkiError: If there is none, or more than one.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise PkiError("the certificate names nobody: it has no alternative name") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise PkiError("the certificate must carry exactly one URI alternative name")
    return uris[0]


def check_certificate(
    certificate: x509.Certificate,
    authority: x509.Certificate,
    *,
    uri: str,
    public_spki: bytes,
    now: datetime,
) -> None:
    """Checks a leaf against everything that a TLS peer would hold against it.

    A refused handshake tells the client nothing but that the socket closed, so a
    node runs this on its own certificate before it dials.

    Args:
        certificate: The leaf.
        authority: The CA certificate that must have issued it.
        uri: The identity it must carry.
        public_spki: SubjectPublicKeyInfo (DER) of the key it must be made for.
        now: Aware UTC.

    Raises:
        CertificateExpiredError: If only the time is wrong.
        PkiError: Naming the first thing that is wrong.
    """
    _require_issued_by(certificate, authority)
    if uri_of(certificate) != uri:
        raise PkiError(f"the certificate belongs to {uri_of(certificate)}, not to {uri}")
    if certificate_spki(certificate) != public_spki:
        raise PkiError("the certificate was made for another key than the one beside it")
    if now < certificate.not_valid_before_utc:
        raise CertificateExpiredError(
            f"the certificate is valid only from {certificate.not_valid_before_utc:%Y-%m-%dT%H:%MZ}"
        )
    if now > certificate.not_valid_after_utc:
        raise CertificateExpiredError(
            f"the certificate expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%MZ}"
        )


def _require_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise PkiError("the certificate was issued by another CA") from None


def _require_p256(public: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(
        public.curve, ec.SECP256R1
    ):
        raise PkiError("TLS keys must be ECDSA P-256")
    return public


def _name(text: str) -> x509.Name:
    # RFC 5280 limits a common name to 64 characters; the identity is the URI.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative_names(
    uri: str, dns_name: str | None, addresses: tuple[str, ...] = ()
) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    if dns_name is not None:
        names.append(x509.DNSName(dns_name))
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    return x509.SubjectAlternativeName(names)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
