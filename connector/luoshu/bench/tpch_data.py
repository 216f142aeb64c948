"""TPC-H for benchmarks and coverage: the product file, the queries, and the data.

The queries and the product file lie in `tpch/`, with a note on where they come from. The data is
made by `tpchgen-cli`, which is installed with what development needs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from luoshu.bench import MissingProgramError

TABLES: Final = (
    "customer",
    "orders",
    "lineitem",
    "part",
    "partsupp",
    "supplier",
    "nation",
    "region",
)
PROTECTED: Final = TABLES[:3]
_FOLDER: Final = Path(__file__).with_name("tpch")
_GENERATOR: Final = "tpchgen-cli"


class MissingGeneratorError(MissingProgramError):
    """`tpchgen-cli` isn't installed; says how to get it."""

    def __init__(self) -> None:
        super().__init__(
            f"{_GENERATOR}, which makes TPC-H data, is not installed. Install it beside luoshu: "
            f"python -m pip install {_GENERATOR}."
        )


def queries() -> Mapping[str, str]:
    """The 22 queries with the specification's validation parameters, `q01` to `q22`."""
    files = sorted(_FOLDER.glob("q*.sql"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def write_tpch(directory: Path, scale: float) -> Path:
    """Makes the data, unless it is there already, and puts the product file beside it.

    Args:
        directory: Where to; one Parquet file a table.
        scale: Scale factor; 1 is 6 million line items of 150,000 customers, 350 MB, 30 s.

    Returns:
        The product file.

    Raises:
        MissingGeneratorError: `tpchgen-cli` isn't installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not all((directory / f"{table}.parquet").exists() for table in TABLES):
        beside = Path(sys.executable).with_name(_GENERATOR)
        generator = str(beside) if beside.exists() else shutil.which(_GENERATOR)
        if generator is None:
            raise MissingGeneratorError
        subprocess.run(  # noqa: S603 - a program of this environment, with constants and a path
            [generator, "parquet", "-s", str(scale), "-q", "--overwrite", "-o", str(directory)],
            check=True,
        )
    product = directory / "tpch.yaml"
    shutil.copyfile(_FOLDER / "tpch.yaml", product)
    return product
