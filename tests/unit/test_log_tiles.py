"""Tiles: paths as C2SP tlog-tiles writes them, file formats, and what is refused."""

import pytest

from luoshu.contracts.log.errors import LogFormatError
from luoshu.contracts.log.tiles import (
    ENTRIES,
    Tile,
    decode_bundle,
    decode_hashes,
    encode_bundle,
    encode_hashes,
    parse_tile_path,
    tiles_of,
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(2, 1000, 1), "tile/2/x001/000.p/1"),
        (Tile(ENTRIES, 5, 255), "tile/entries/005.p/255"),
    ],
)
def test_paths(tile, path):
    assert tile.path == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/00/001",
        "tile/8/001",
        "tile/-1/001",
        "tile/entry/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001.p",
        "tile/0/../001",
        "/tile/0/001",
        "tile/0/001/",
        "tile/0/٠٠١",
        "tile/0/" + "x001/" * 30 + "001",
    ],
)
def test_bad_paths(path):
    with pytest.raises(LogFormatError):
        parse_tile_path(path)


def test_tiles_of_a_tree():
    assert [tile.path for tile in tiles_of(0)] == []
    assert [tile.path for tile in tiles_of(70_000)][-3:] == [
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert [tile.path for tile in tiles_of(258, since=256)] == [
        "tile/entries/001.p/2",
        "tile/0/001.p/2",
    ]
    assert list(tiles_of(258, since=258)) == []


def test_hash_tiles():
    hashes = [bytes([i]) * 32 for i in range(256)]
    assert decode_hashes(encode_hashes(hashes), 256) == hashes
    for bad in ([], [*hashes, hashes[0]], [b"short"]):
        with pytest.raises(LogFormatError):
            encode_hashes(bad)
    for width in (1, 3):
        with pytest.raises(LogFormatError):
            decode_hashes(encode_hashes(hashes[:2]), width)


def test_entry_bundles():
    entries = [b"", b"x", b"y" * 65_535]
    data = encode_bundle(entries)
    assert decode_bundle(data, 3) == [(0, b""), (2, b"x"), (5, b"y" * 65_535)]
    for bad in ([], [b""] * 257, [b"z" * 65_536]):
        with pytest.raises(LogFormatError):
            encode_bundle(bad)
    for width, cut, offset in [(4, 0, len(data)), (2, 0, 5), (3, 1, 5), (3, len(data) - 1, 0)]:
        with pytest.raises(LogFormatError) as caught:
            decode_bundle(data[: len(data) - cut], width)
        assert caught.value.offset == offset
