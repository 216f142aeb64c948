"""Units of the data become ids: dense, never changing, telling nothing about the units.

The registry that the holder's node keeps is a table of salted hashes and ids.
This worker gets a copy of it, adds the units that are new, and never changes a
line that is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from luoshu.sandbox.engine import Connection, identifier, literal
from luoshu.sandbox.worker.preparation.column import FLOATS, Declaration, describe_column
from luoshu.sandbox.worker.preparation.source import Relation, SourceError

REGISTRY = "/units/units.duckdb"
UNIT_IDS = "temp.main.unit_ids"
"""Table of the units of this preparation: `text` and `id`."""
MAX_UNITS = 2**31


def unit_text(unit: str, relation: Relation) -> str:
    """SQL for the text that names a row's unit, whatever its type in the source.

    Raises:
        SourceError: A type that can't name units.
    """
    kind = relation.kinds[unit]
    if kind in FLOATS:
        raise SourceError(
            f"the privacy unit {unit} is {kind}; ids must be exact: convert it to integers or text."
        )
    describe_column(Declaration(unit, frozenset()), kind, is_collated=False)
    text = f"CAST({identifier(unit)} AS VARCHAR)"
    return f"decode(encode({text}))" if relation.is_collated else text


def check_collation(connection: Connection, unit: str, relation: Relation) -> None:
    """Refuses units that the source takes for one though their names differ.

    Raises:
        SourceError: There are such.
    """
    if not relation.is_collated:
        return
    row = connection.execute(
        f"SELECT count(DISTINCT {identifier(unit)}), count(DISTINCT {unit_text(unit, relation)}) "  # noqa: S608
        f"FROM {relation.name}"
    ).fetchone()
    if row and row[0] != row[1]:
        raise SourceError(
            f"the privacy unit {unit} has {row[1]} texts for {row[0]} units, since its collation "
            "takes some for equal; write each unit in one way."
        )


def assign_ids(connection: Connection, salt: str, texts: Sequence[str]) -> tuple[int, int]:
    """Gives every unit its id.

    Args:
        connection: Where `UNIT_IDS` is made.
        salt: Of the registry.
        texts: Queries of one column each, the units' texts.

    Returns:
        How many units there are, and how many of them are new in the registry.

    Raises:
        SourceError: More units than ids.
    """
    connection.execute(f"ATTACH {literal(REGISTRY)} AS registry")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS registry.main.units (digest BLOB NOT NULL, id BIGINT NOT NULL)"
    )
    connection.execute("CREATE TEMP TABLE unit_digests (text VARCHAR, digest BLOB)")
    connection.execute(
        f"INSERT INTO unit_digests SELECT text, unhex(sha256({literal(salt)} || text)) "  # noqa: S608
        f"FROM ({' UNION '.join(texts)}) AS found(text)"
    )
    before = _count(connection, "SELECT count(*) FROM registry.main.units")
    # In the order of the hashes, whose salt is secret: ids tell nothing about the units' names or
    # their order in the source.
    connection.execute(
        f"INSERT INTO registry.main.units SELECT digest, {before} - 1 + "  # noqa: S608 - a count
        "row_number() OVER (ORDER BY digest) FROM unit_digests "
        "ANTI JOIN registry.main.units USING (digest)"
    )
    after = _count(connection, "SELECT count(*) FROM registry.main.units")
    if after > MAX_UNITS:
        raise SourceError(
            f"the privacy domain would have {after} units; at most 2^31 are possible."
        )
    connection.execute("CREATE TEMP TABLE unit_ids (text VARCHAR NOT NULL, id BIGINT NOT NULL)")
    connection.execute(
        "INSERT INTO unit_ids SELECT text, id FROM unit_digests "
        "JOIN registry.main.units USING (digest)"
    )
    connection.execute("DROP TABLE unit_digests")
    connection.execute("CHECKPOINT registry")
    connection.execute("DETACH registry")
    return _count(connection, "SELECT count(*) FROM unit_ids"), after - before


def _count(connection: Connection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0
