"""A released result, verified before anybody sees it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from luoshu.contracts.release_notes import from_metadata
from luoshu.sdk.errors import MissingDependencyError, VerificationError
from luoshu.sdk.receipts import VerifiedReceipt

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """What a computation released.

    Made only by `Computation.result`, after the receipt has been verified
    against exactly these bytes.

    Attributes:
        arrow_ipc: The released bytes, one Arrow IPC stream.
        receipt: What proves them; `receipt.save(path)` keeps it.
    """

    def __init__(self, arrow_ipc: bytes, receipt: VerifiedReceipt) -> None:
        self.arrow_ipc = arrow_ipc
        self.receipt = receipt

    @property
    def request_id(self) -> str:
        """Id of the request that was answered."""
        return self.receipt.request.id

    @property
    def contract_id(self) -> str:
        """The contract under which it was released."""
        return self.receipt.contract_id

    @cached_property
    def table(self) -> pa.Table:
        """The result as a pyarrow Table.

        Raises:
            VerificationError: The holder released bytes that are no Arrow IPC stream.
        """
        try:
            with pa.ipc.open_stream(pa.py_buffer(self.arrow_ipc)) as reader:
                table: pa.Table = reader.read_all()
                table.validate(full=True)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise VerificationError(
                "The holder released something that is no Arrow table.", reason="RESULT_MISMATCH"
            ) from error
        return table

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order; names may repeat."""
        return tuple(self.table.column_names)

    @property
    def schema(self) -> tuple[tuple[str, str], ...]:
        """Name and type of each column: the SQL type that the release states, else Arrow's."""
        stated = self.receipt.body.data.get("columns")
        columns = [
            (str(column.get("name")), str(column.get("type")))
            for column in (stated if isinstance(stated, list) else [])
            if isinstance(column, dict)
        ]
        if tuple(name for name, _ in columns) == self.columns:
            return tuple(columns)
        return tuple((field.name, str(field.type)) for field in self.table.schema)

    @property
    def notes(self) -> tuple[str, ...]:
        """Names of what the holder says with it; `luoshu.contracts.release_notes` has the texts."""
        return from_metadata(self.table.schema.metadata)

    def rows(self) -> list[list[object]]:
        """The rows as Python values."""
        columns: list[list[object]] = [column.to_pylist() for column in self.table.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def to_pandas(self) -> pd.DataFrame:
        """The result as a pandas DataFrame.

        Raises:
            MissingDependencyError: pandas isn't installed.
        """
        try:
            import pandas  # noqa: F401, PLC0415
        except ImportError as error:
            raise MissingDependencyError("to_pandas() needs pandas.") from error
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        """Shape and proof, no values."""
        return (
            f"<Result {len(self)} rows x {len(self.columns)} columns, "
            f"receipt verified: entry {self.receipt.index} of {self.receipt.origin}>"
        )
