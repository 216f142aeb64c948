"""Keys: one use each, no degenerate points, no other encodings."""

import base64

import pytest
from contract_world import key
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from luoshu.contracts.errors import DocumentError, KeyMaterialError, SignatureError
from luoshu.contracts.keys import (
    KeyUse,
    PublicKey,
    SigningKey,
    decode_base64,
)

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def test_rfc_8032_test_1() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signing = SigningKey.from_seed(seed, KeyUse.LOG)
    assert signing.public.public_bytes.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert signing.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    signing.public.verify(signing.sign(b"x"), b"x")
    for signature, data in ((signing.sign(b"x"), b"y"), (b"", b"x"), (bytes(64), b"x")):
        with pytest.raises(SignatureError):
            signing.public.verify(signature, data)


def test_pem_comes_back_and_is_never_printed() -> None:
    signing = SigningKey.generate(KeyUse.EVENTS)
    again = SigningKey.from_pem(signing.to_pem(), KeyUse.EVENTS)
    assert again.public == signing.public
    assert again.sign(b"x") == signing.sign(b"x")
    seed = base64.b64decode(signing.to_pem().split(b"\n")[1])[-32:]
    assert seed.hex() not in repr(signing)
    assert "private" not in repr(signing).lower()


def test_other_private_keys_are_refused() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(KeyMaterialError):
        SigningKey.from_pem(pem, KeyUse.EVENTS)
    with pytest.raises(KeyMaterialError):
        SigningKey.from_pem(b"nonsense", KeyUse.EVENTS)
    with pytest.raises(KeyMaterialError):
        SigningKey.from_seed(bytes(32), KeyUse.TLS)


def test_json_form_comes_back() -> None:
    public = key("north", KeyUse.EVENTS).public
    assert PublicKey.from_payload(public.to_payload()) == public
    tls = PublicKey.tls(b"any SubjectPublicKeyInfo")
    assert PublicKey.from_payload(tls.to_payload()) == tls
    with pytest.raises(SignatureError):
        tls.verify(bytes(64), b"x")


def test_an_id_of_another_key_is_refused() -> None:
    mine, other = key("a", KeyUse.EVENTS).public, key("b", KeyUse.EVENTS).public
    with pytest.raises(KeyMaterialError):
        PublicKey(other.key_id, KeyUse.EVENTS, mine.public_bytes)
    with pytest.raises(KeyMaterialError):
        PublicKey.from_payload({**mine.to_payload(), "id": other.key_id})
    with pytest.raises(KeyMaterialError):
        PublicKey.from_payload({**mine.to_payload(), "use": "tls"})


@pytest.mark.parametrize(
    "change",
    [
        {"id": 1},
        {"id": "A" * 64},
        {"use": "signing"},
        {"public": "!"},
        {"public": "AAAA"},
        {"extra": 1},
    ],
)
def test_ill_formed_keys_are_refused(change: dict) -> None:
    with pytest.raises((DocumentError, KeyMaterialError)):
        PublicKey.from_payload({**key("a", KeyUse.LOG).public.to_payload(), **change})


def _double(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    k = D * x * x * y * y % P
    return (
        2 * x * y * pow(1 + k, -1, P) % P,
        (y * y + x * x) * pow(1 - k, -1, P) % P,
    )


def _points_of_small_order() -> list[bytes]:
    # y of the points of order 8 solve d·y⁴ + 2·y² - 1 = 0: there 2·(2·P) = (0, -1).
    found = []
    root = _root((1 + D) % P)
    assert root is not None
    squares = [(-1 + sign * root) * pow(D, -1, P) % P for sign in (1, -1)]
    ys = {0, 1, P - 1}
    for square in squares:
        y = _root(square)
        if y is not None:
            ys |= {y, P - y}
    for y in ys:
        x = _root((y * y - 1) * pow(D * y * y + 1, -1, P) % P)
        assert x is not None
        point = (x, y)
        for _ in range(3):
            point = _double(point)
        assert point == (0, 1)
        found += [(y | sign << 255).to_bytes(32, "little") for sign in (0, 1)]
    return found


def _root(square: int) -> int | None:
    candidate = pow(square, (P + 3) // 8, P)
    for root in (candidate, candidate * pow(2, (P - 1) // 4, P) % P):
        if root * root % P == square:
            return root
    return None


def test_points_of_small_order_are_refused() -> None:
    points = _points_of_small_order()
    assert len(points) == 10  # eight points, two of them with a second sign bit
    for encoded in points:
        with pytest.raises(KeyMaterialError, match="small order"):
            PublicKey.from_raw(encoded, KeyUse.EVENTS)


@pytest.mark.parametrize("y", [P, P + 1, P + 18])
def test_points_in_another_encoding_are_refused(y: int) -> None:
    with pytest.raises(KeyMaterialError, match="not canonical"):
        PublicKey.from_raw(y.to_bytes(32, "little"), KeyUse.EVENTS)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(KeyMaterialError):
        PublicKey.from_raw(bytes(size), KeyUse.EVENTS)
    with pytest.raises(KeyMaterialError):
        PublicKey("0" * 64, KeyUse.TLS, bytes(size))


@pytest.mark.parametrize("text", ["AB==", "AA", "A A=", "AA==\n", "-_8=", "ÄA==", "=", "AAA=A"])
def test_other_base64_is_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        decode_base64(text)
    assert decode_base64("+/8=") == b"\xfb\xff"
    assert decode_base64("") == b""
