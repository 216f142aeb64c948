"""Signed notes and checkpoints: the C2SP formats, and what is refused."""

import pytest
from log_world import LOG_KEY, ORIGIN, OTHER_KEY

from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.log.checkpoint import (
    Checkpoint,
    open_checkpoint,
    sign_checkpoint,
    unverified_checkpoint,
)
from luoshu.contracts.log.errors import LogError, LogFormatError, NoteSignatureError
from luoshu.contracts.log.merkle import EMPTY_ROOT
from luoshu.contracts.log.note import NoteVerifier, open_note, sign_note

OURS = NoteVerifier(ORIGIN, LOG_KEY.public)
OTHER = NoteVerifier("other", OTHER_KEY.public)
ROOT = bytes(range(32))


def test_sign_and_open():
    note = sign_note("text\n", [(ORIGIN, LOG_KEY), ("other", OTHER_KEY)])
    assert note.startswith(f"text\n\n— {ORIGIN} ")
    assert open_note(note, [OURS]).verified == (OURS,)
    assert open_note(note, [OTHER, OURS]).verified == (OURS, OTHER)
    assert open_note(note, [OURS]).text == "text\n"


def test_the_text_may_have_empty_lines():
    note = sign_note("a\n\nb\n", [(ORIGIN, LOG_KEY)])
    assert open_note(note, [OURS]).text == "a\n\nb\n"


def test_unknown_signatures_are_ignored_but_one_known_is_needed():
    note = sign_note("text\n", [("other", OTHER_KEY)])
    with pytest.raises(NoteSignatureError):
        open_note(note, [OURS])
    with pytest.raises(NoteSignatureError):
        open_note(note, [])


def test_a_wrong_signature_by_a_known_key_spoils_the_note():
    good = sign_note("text\n", [(ORIGIN, LOG_KEY), ("other", OTHER_KEY)])
    stolen = sign_note("another\n", [("other", OTHER_KEY)]).split("\n\n")[1]
    bad = good[: good.rindex("— ")] + stolen
    with pytest.raises(NoteSignatureError):
        open_note(bad, [OURS, OTHER])
    assert open_note(bad, [OURS]).verified == (OURS,)


def test_a_key_under_another_name_does_not_count():
    note = sign_note("text\n", [("somebody", LOG_KEY)])
    with pytest.raises(NoteSignatureError):
        open_note(note, [OURS])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n\n",
        "text\n\n— name\n",
        "text\n\n— name AAAA\n",
        "text\n\n— name !!!!\n",
        "text\n\n- name AAAAAAAAAAAA\n",
        "text\n\n— na+me AAAAAAAAAAAA\n",
        "te\rxt\n\n— name AAAAAAAAAAAA\n",
        "text\n\n— name AAAAAAAAAAAA",
        "x" * 70_000 + "\n\n— name AAAAAAAAAAAA\n",
        "text\n\n" + "— name AAAAAAAAAAAA\n" * 101,
    ],
)
def test_what_is_no_note(note):
    with pytest.raises(LogFormatError):
        open_note(note, [OURS])


@pytest.mark.parametrize(("text", "name"), [("no newline", "a"), ("a\0\n", "a"), ("a\n", "a b")])
def test_what_cannot_be_signed(text, name):
    with pytest.raises(LogFormatError):
        sign_note(text, [(name, LOG_KEY)])


def test_nobody_signs():
    with pytest.raises(LogFormatError):
        sign_note("a\n", [])


def test_only_log_and_witness_keys_verify_notes():
    events = SigningKey.from_seed(b"e" * 32, KeyUse.EVENTS)
    with pytest.raises(LogFormatError):
        NoteVerifier(ORIGIN, events.public)
    with pytest.raises(LogFormatError):
        NoteVerifier(ORIGIN, PublicKey.tls(b"spki"))


def test_a_witness_key_signs_no_checkpoint_of_its_own():
    witness = SigningKey.from_seed(b"w" * 32, KeyUse.WITNESS)
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, ROOT), witness)
    with pytest.raises(NoteSignatureError):
        open_checkpoint(note, [NoteVerifier(ORIGIN, witness.public)])


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000",
        OURS.vkey.replace("+", "-"),
        OURS.vkey[:-4],
        ORIGIN + "x" + OURS.vkey.removeprefix(ORIGIN),
        OURS.vkey.replace("+AQ", "+AQ", 1)[:-1] + "!",
    ],
)
def test_bad_verifier_keys(vkey):
    with pytest.raises(LogError):
        NoteVerifier.parse(vkey)
    assert NoteVerifier.parse(OURS.vkey) == OURS


def test_checkpoint_round_trip():
    for checkpoint in (
        Checkpoint(ORIGIN, 12345, ROOT),
        Checkpoint(ORIGIN, 0, EMPTY_ROOT),
        Checkpoint(ORIGIN, 1, ROOT, ("one", "two")),
    ):
        note = sign_checkpoint(checkpoint, LOG_KEY)
        assert open_checkpoint(note, [OTHER, OURS]) == checkpoint
        assert open_checkpoint(note, [OURS], ORIGIN) == checkpoint
        assert unverified_checkpoint(note) == checkpoint
        with pytest.raises(LogFormatError):
            open_checkpoint(note, [OURS], "other")
        with pytest.raises(NoteSignatureError):
            open_checkpoint(note, [OTHER])


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n1\n",
        f"{ORIGIN}\n01\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        f"{ORIGIN}\n-1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        f"{ORIGIN}\n١\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        f"{ORIGIN}\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\n",
        f"{ORIGIN}\n1\nAAEC\n",
        f"{ORIGIN}\n0\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        f"{ORIGIN}\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n",
    ],
)
def test_what_is_no_checkpoint(text):
    with pytest.raises(LogFormatError):
        Checkpoint.from_text(text)
