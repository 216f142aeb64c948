"""Small tables of well-known schemas, to see which of their queries the guard accepts.

    python -m luoshu.bench.schemas tpcds DIRECTORY
    luoshu sandbox run --product DIRECTORY/tpcds.yaml --sql-file DIRECTORY --verdicts

What is denied depends on declarations alone, so a protected table has no row. A public one has two,
which differ in the columns of its key only: what is unique in a public table is measured, and in
one without rows everything would be.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duckdb

from luoshu.sandbox.engine import identifier
from luoshu.sandbox.product_file import load_product_file

SCHEMAS: Final = ("tpcds", "clickbench")
_FOLDER: Final = Path(__file__).parent


def queries(name: str) -> Mapping[str, str]:
    """The queries of a benchmark that are part of this distribution: of ClickBench none."""
    files = sorted((_FOLDER / name).glob("q*.sql"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def write_schema(name: str, directory: Path) -> Path:
    """Writes tables, product file and queries.

    Args:
        name: One of `SCHEMAS`.
        directory: Made if missing; one Parquet file a table.

    Returns:
        The product file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = _FOLDER / name
    product = load_product_file(source / f"{name}.yaml")
    with duckdb.connect() as connection:
        connection.execute((source / "schema.sql").read_text(encoding="utf-8"))
        for table, rule in product.table_rules.items():
            if rule.public:
                _fill(connection, table, rule.key or ())
            path = directory / f"{table}.parquet"
            connection.execute(f"COPY {identifier(table)} TO '{path}'")
    for file in (source / f"{name}.yaml", *source.glob("q*.sql")):
        shutil.copyfile(file, directory / file.name)
    return directory / f"{name}.yaml"


def _fill(connection: duckdb.DuckDBPyConnection, table: str, key: tuple[str, ...]) -> None:
    columns = connection.execute(f"DESCRIBE {identifier(table)}").fetchall()
    for row in (1, 2):
        values = [
            f"CAST('{row if name in key else 1}' AS BIGINT)" if kind == "BIGINT" else "NULL"
            for name, kind, *_ in columns
        ]
        connection.execute(f"INSERT INTO {identifier(table)} VALUES ({', '.join(values)})")  # noqa: S608


def main() -> None:
    """Entry point."""
    if len(sys.argv) != 3 or sys.argv[1] not in SCHEMAS:
        raise SystemExit(f"usage: python -m luoshu.bench.schemas {'|'.join(SCHEMAS)} DIRECTORY")
    print(write_schema(sys.argv[1], Path(sys.argv[2])))  # noqa: T201


if __name__ == "__main__":
    main()
