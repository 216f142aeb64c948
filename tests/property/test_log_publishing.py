"""Journal and published tiles at random sizes, group by group, with restarts."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from log_world import KEYS, LOG_KEY, ORIGIN, journal_entry

from luoshu.connector.journal.files import OsFiles
from luoshu.connector.journal.journal import Commit, Journal
from luoshu.connector.journal.publisher import Publisher, tile_reader
from luoshu.connector.journal.tree import LogTree
from luoshu.contracts.log.checkpoint import Checkpoint, sign_checkpoint
from luoshu.contracts.log.merkle import (
    CompactTree,
    hash_leaf,
    verify_consistency,
    verify_inclusion,
)
from luoshu.contracts.log.tiles import Tile, encode_bundle, tiles_of
from luoshu.contracts.log.verify import verify_log_directory

ENTRIES = [journal_entry(i) for i in range(1100)]
HASHES = [hash_leaf(each.leaf) for each in ENTRIES]


def root_at(size):
    tree = CompactTree()
    for each in HASHES[:size]:
        tree.append(each)
    return tree.root()


class Log:
    """The parts of a log without a ledger."""

    def __init__(self, directory):
        self.directory = Path(directory) / "log"
        self.open()

    def open(self):
        def read_leaves(first, count):
            return [each.leaf for each in self.journal.read(first, count)]

        self.tree = LogTree(read_leaves, tile_reader(self.directory))
        self.journal = Journal.open(
            self.directory, visit=lambda each, _offset: self.tree.append([each.leaf])
        )
        self.publisher = Publisher(self.directory, self.tree, OsFiles(), 0.0)

    def grow(self, groups):
        first = self.journal.size
        commits = []
        for count in groups:
            commits.append(Commit.of(ENTRIES[first : first + count]))
            first += count
        self.journal.append(commits)
        self.tree.append([e.leaf for e in ENTRIES[self.tree.size : first]])

    def publish(self):
        size = self.tree.size
        note = sign_checkpoint(Checkpoint(ORIGIN, size, self.tree.root()), LOG_KEY)
        self.publisher.publish(size, note)


steps = st.lists(
    st.one_of(
        st.lists(st.integers(1, 90), min_size=1, max_size=4),
        st.sampled_from(["publish", "restart"]),
        st.sampled_from([[255], [256], [1]]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(steps, st.data())
def test_grows_publishes_and_restarts(actions, data):
    with TemporaryDirectory() as directory:
        log = Log(directory)
        for action in actions:
            if action == "publish":
                log.publish()
            elif action == "restart":
                log.journal.close()
                log.open()
            elif log.journal.size + sum(action) <= len(ENTRIES):
                log.grow(action)
        size = log.journal.size
        assert log.tree.root() == root_at(size)
        assert [each.entry for each in log.journal.read(0, size)] == [
            each.entry for each in ENTRIES[:size]
        ]
        log.publish()
        report = verify_log_directory(log.directory, KEYS)
        assert report.ok, report.problems
        assert report.size == size
        for tile in tiles_of(size):
            data_on_disk = (log.directory / tile.path).read_bytes()
            if tile.level == -1:
                leaves = [e.leaf for e in ENTRIES[tile.first : tile.first + tile.width]]
                assert data_on_disk == encode_bundle(leaves)
            elif tile.level == 0:
                assert data_on_disk == b"".join(HASHES[tile.first : tile.first + tile.width])
        if size:
            log.tree._cache.clear()
            index = data.draw(st.integers(0, size - 1))
            proof = log.tree.inclusion_proof(index, size)
            verify_inclusion(HASHES[index], index, size, proof, root_at(size))
            proof = log.tree.consistency_proof(index + 1, size)
            verify_consistency(index + 1, size, proof, root_at(index + 1), root_at(size))
        log.journal.close()


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_tiles_between_two_sizes(one, two):
    """What is new between two sizes, with what was there, is what there is."""
    since, size = sorted((one, two))
    new = set(tiles_of(size, since=since))
    before, after = set(tiles_of(since)), set(tiles_of(size))
    assert after - before <= new <= after
    covered = {(tile.level, tile.index) for tile in new}
    assert all(tile in before or (tile.level, tile.index) in covered for tile in after)


@given(st.integers(-1, 7), st.integers(0, 10**12), st.integers(1, 256))
def test_tile_paths_round_trip(level, index, width):
    from luoshu.contracts.log.tiles import parse_tile_path

    tile = Tile(level, index, width)
    assert parse_tile_path(tile.path) == tile
