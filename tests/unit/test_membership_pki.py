"""Certificates: what is issued, and what is refused."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from luoshu.connector.membership import pki

NOW = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
URI = "urn:luoshu:alliance:clinic"
DNS = "clinic.alliance.luoshu.internal"


@pytest.fixture(scope="module")
def authority():
    return pki.create_authority("test space", NOW)


def issue(authority, key, **changes):
    values = {
        "uri": URI,
        "dns_name": DNS,
        "server": True,
        "client": True,
        "not_before": NOW,
        "not_after": NOW + DAY,
    }
    return pki.certificate_from_pem(pki.issue(authority, key.public_key(), **{**values, **changes}))


def check(certificate, authority, key, **changes):
    values = {"uri": URI, "public_spki": pki.spki_der(key.public_key()), "now": NOW}
    pki.check_certificate(certificate, authority.certificate, **{**values, **changes})


def test_leaf_carries_the_identity_and_may_not_sign(authority):
    key = pki.generate_key()
    leaf = issue(authority, key)
    assert pki.uri_of(leaf) == URI
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [DNS]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    check(leaf, authority, key)


def test_user_certificate_can_not_serve(authority):
    leaf = issue(authority, pki.generate_key(), dns_name=None, server=False)
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_authority_signs_leaves_only(authority):
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    reloaded = pki.load_authority(authority.key_pem, authority.certificate_pem)
    assert reloaded.certificate == authority.certificate


def test_authority_of_another_key_is_refused(authority):
    other = pki.create_authority("other", NOW)
    with pytest.raises(pki.PkiError, match="beside it"):
        pki.load_authority(other.key_pem, authority.certificate_pem)


def test_leaf_is_no_authority(authority):
    key = pki.generate_key()
    leaf = pki.certificate_to_pem(issue(authority, key))
    with pytest.raises(pki.PkiError, match="not a CA"):
        pki.load_authority(pki.key_to_pem(key), leaf)


def test_certificate_may_not_outlive_its_authority(authority):
    with pytest.raises(pki.PkiError, match="outlive"):
        issue(authority, pki.generate_key(), not_after=NOW + pki.CA_VALIDITY + DAY)


@pytest.mark.parametrize(
    ("changes", "text", "kind"),
    [
        ({"uri": URI + "x"}, "belongs to", pki.PkiError),
        ({"public_spki": b"other"}, "another key", pki.PkiError),
        ({"now": NOW + 2 * DAY}, "expired", pki.CertificateExpiredError),
        ({"now": NOW - DAY}, "valid only from", pki.CertificateExpiredError),
    ],
)
def test_check_names_what_is_wrong(authority, changes, text, kind):
    key = pki.generate_key()
    with pytest.raises(kind, match=text):
        check(issue(authority, key), authority, key, **changes)


def test_certificate_of_another_authority_is_refused(authority):
    key = pki.generate_key()
    # The same name, another key: only the signature tells.
    other = pki.create_authority("test space", NOW)
    with pytest.raises(pki.PkiError, match="another CA"):
        check(issue(other, key), authority, key)


def test_request_proves_possession():
    key = pki.generate_key()
    pem = pki.create_request(key, URI, DNS)
    assert pki.spki_der(pki.read_request(pem)) == pki.spki_der(key.public_key())
    der = bytearray(x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(pki.PkiError):
        pki.read_request(forged)


def test_other_kinds_of_keys_are_refused():
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(pki.PkiError, match="P-256"):
        pki.key_from_pem(edwards)
    larger = ec.generate_private_key(ec.SECP384R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(larger, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    with pytest.raises(pki.PkiError, match="P-256"):
        pki.read_request(request)


@pytest.mark.parametrize("read", [pki.key_from_pem, pki.certificate_from_pem, pki.read_request])
def test_rubbish_is_refused(read):
    with pytest.raises(pki.PkiError):
        read(b"-----BEGIN NOTHING-----\n")


@pytest.mark.parametrize("uris", [[], [URI, URI + "2"]])
def test_certificate_must_name_exactly_one(authority, uris):
    key = pki.generate_key()
    names = [x509.UniformResourceIdentifier(uri) for uri in uris] or [x509.DNSName(DNS)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    with pytest.raises(pki.PkiError, match="exactly one"):
        pki.uri_of(certificate)
