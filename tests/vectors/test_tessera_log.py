"""Reads a real tlog-tiles log that Tessera wrote, and all its checkpoints."""

import os
import shutil
from pathlib import Path

import pytest

from luoshu.contracts.log.checkpoint import open_checkpoint
from luoshu.contracts.log.errors import NoteSignatureError
from luoshu.contracts.log.merkle import CompactTree, hash_leaf
from luoshu.contracts.log.note import NoteVerifier
from luoshu.contracts.log.tiles import (
    ENTRIES,
    Tile,
    decode_bundle,
    decode_hashes,
    encode_bundle,
    tiles_of,
)
from luoshu.contracts.log.verify import LogKeys, verify_log_directory

LOG = Path(os.environ.get("LUOSHU_VECTORS", "../shared/vectors")) / "tessera-log" / "log"
VKEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"

pytestmark = pytest.mark.skipif(
    not LOG.is_dir(), reason=f"no log in {LOG.parent}; set LUOSHU_VECTORS"
)


def test_verifier_key_is_read_and_written_back():
    verifier = NoteVerifier.parse(VKEY)
    assert verifier.name == "example.com/log/testdata"
    assert verifier.vkey == VKEY


@pytest.mark.parametrize("size", range(16))
def test_each_checkpoint_has_the_root_of_its_entries(size):
    note = (LOG / f"checkpoint.{size}").read_text()
    checkpoint = open_checkpoint(note, [NoteVerifier.parse(VKEY)])
    tree = CompactTree()
    for tile in tiles_of(size):
        data = (LOG / tile.path).read_bytes()
        if tile.level == ENTRIES:
            entries = [entry for _, entry in decode_bundle(data, tile.width)]
            assert encode_bundle(entries) == data
            hashes = [hash_leaf(entry) for entry in entries]
            for each in hashes:
                tree.append(each)
        else:
            assert decode_hashes(data, tile.width) == hashes
    assert (checkpoint.size, checkpoint.root) == (size, tree.root())


def test_the_whole_log_verifies():
    report = verify_log_directory(LOG, LogKeys.of_verifier_key(VKEY))
    assert report.ok, report.problems
    assert report.size == 15
    assert report.checks == {"signatures": 1, "bundles": 1, "tiles": 1, "entries": 15}


@pytest.mark.parametrize("tile", [Tile(0, 0, 15), Tile(ENTRIES, 0, 15)])
def test_every_flipped_byte_of_a_tile_is_named(tmp_path, tile):
    copy = tmp_path / "log"
    shutil.copytree(LOG, copy)
    path = copy / tile.path
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        report = verify_log_directory(copy, LogKeys.of_verifier_key(VKEY))
        assert not report.ok
        problem = report.problems[0]
        assert problem.file == tile.path
        assert problem.offset is not None
        assert problem.offset <= position


def test_signature_of_another_checkpoint_is_refused():
    older = (LOG / "checkpoint.3").read_text()
    newer = (LOG / "checkpoint.4").read_text()
    mixed = newer.split("\n\n")[0] + "\n\n" + older.split("\n\n")[1]
    with pytest.raises(NoteSignatureError):
        open_checkpoint(mixed, [NoteVerifier.parse(VKEY)])
