"""The product file: what a holder writes to offer data.

Reads the YAML strictly: an unknown key is an error, as is a key given twice.
The whole schema is read, also what this version can't execute yet; preparation
says so then (`luoshu.sandbox.prepare`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from luoshu.sandbox.errors import ProductFileError
from luoshu.sandbox.release.dp_budget import Budget, Guarantee, cost_of
from luoshu.sandbox.release.dp_plan import MAX_CONTRIBUTION
from luoshu.sandbox.schema import MAX_COLUMNS, Use
from luoshu.sandbox.unit_paths import UnitSource, resolve_units

MAX_FILE_BYTES = 1 << 20
MAX_DECIMALS = 12
_EPSILON_DECIMALS = 6
_DELTA_DECIMALS = 15
MAX_TABLES = 100
MAX_KEY = 16
RESERVED_CATALOGS = frozenset(
    {"system", "temp", "main", "memory", "information_schema", "pg_catalog"}
)
"""Catalogs and schemas that DuckDB has already; a product of such a name gets `_` behind it."""


def _plain_name(name: str) -> str:
    if not name.isprintable() or not name.strip() or len(name.encode()) > 256:
        raise ValueError("a name must be printable and at most 256 bytes")
    return name


def _bound(value: object) -> Decimal | date:
    # YAML reads 0.1 as a float; its shortest text is what the holder wrote.
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        number = Decimal(str(value))
        if number.is_finite() and abs(number) < Decimal(10) ** 20:
            return number
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("a bound must be a number or a date (YYYY-MM-DD)")


def _domain_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ")
    if isinstance(value, str | int | float | Decimal | date):
        return str(value)
    raise ValueError("a declared value must be a text, a number, a date, true or false")


ProductId = Annotated[str, Field(pattern=r"^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$")]
ColumnName = Annotated[str, AfterValidator(_plain_name)]
Bound = Annotated[Decimal | date, PlainValidator(_bound)]
DomainValue = Annotated[str, PlainValidator(_domain_value)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LocalizedText(_Strict):
    """A text in English and Chinese."""

    en: str
    zh: str


class Source(_Strict):
    """Where the rows come from; exactly one of the four. Paths are relative to the file."""

    parquet: Path | None = None
    csv: Path | None = None
    duckdb: Path | None = None
    postgres: str | None = None
    table: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("parquet", "csv", "duckdb", "postgres") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("give exactly one of parquet, csv, duckdb, postgres")
        if (self.table is not None) != (given[0] in {"duckdb", "postgres"}):
            raise ValueError("`table` goes with duckdb and postgres, and with them only")
        return self

    @property
    def kind(self) -> str:
        """Which of the four was given: parquet, csv, duckdb or postgres."""
        return next(
            name for name in ("parquet", "csv", "duckdb", "postgres") if getattr(self, name)
        )

    @property
    def path(self) -> Path | None:
        """The file, unless the source is a server."""
        return self.parquet or self.csv or self.duckdb


class Classification(_Strict):
    """How the data is classified (GB/T 43697-2024; PIPL for personal information)."""

    level: Literal["general", "important", "core"] = "general"
    personal_information: Literal["none", "non-sensitive", "sensitive"] = "none"
    subjects: int = Field(default=0, ge=0)


class ColumnRule(_Strict):
    """What analysts may do with one column.

    Attributes:
        use: Any of group, filter, aggregate.
        bounds: Least and greatest value that may occur.
        values: The declared domain, all values that may occur.
        decimals: Digits after the point that floating-point values are kept with (default 6).
    """

    use: Annotated[frozenset[Use], Field(min_length=1)]
    bounds: tuple[Bound, Bound] | None = None
    values: Annotated[tuple[DomainValue, ...], Field(min_length=1, max_length=10_000)] | None = None
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.bounds is not None:
            low, high = self.bounds
            if isinstance(low, date) != isinstance(high, date):
                raise ValueError("bounds must be two numbers or two dates")
            if low > high:  # type: ignore[operator]  # of one kind, see above
                raise ValueError("bounds must be [least, greatest]")
        return self


Columns = Annotated[dict[ColumnName, ColumnRule], Field(min_length=1, max_length=MAX_COLUMNS)]


class UnitPath(_Strict):
    """A table whose rows belong to the unit of the row they refer to in another table."""

    via: ColumnName
    on: Annotated[dict[ColumnName, ColumnName], Field(min_length=1)]


class TableRule(Source):
    """One table of a product.

    Attributes:
        unit: The column that names its unit, or the path to a table that has one.
        public: Whether its rows belong to nobody, which leaves `unit` out.
        key: Columns of a public table that no two rows have in common; demanded of the data.
        columns: What analysts may do with them; of a public table all that are supported, with
            every use, unless it says otherwise.
    """

    unit: ColumnName | UnitPath | None = None
    public: bool = False
    key: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=MAX_KEY)] | None = None
    columns: Columns | None = None

    @model_validator(mode="after")
    def _owned(self) -> Self:
        if self.public == (self.unit is not None):
            raise ValueError("a table has a `unit`, or `public: true`")
        if not self.public and not self.columns:
            raise ValueError("a table with a unit declares its `columns`")
        if self.key is not None:
            if not self.public:
                raise ValueError("`key` goes with public tables")
            if len(set(self.key)) != len(self.key):
                raise ValueError("`key` names a column twice")
            if self.columns is not None and not set(self.key) <= self.columns.keys():
                raise ValueError("`key` names a column that is not among its `columns`")
        return self


class AggregateRelease(_Strict):
    """Aggregates over at least `min_units` distinct units."""

    mode: Literal["aggregate"]
    min_units: int = Field(ge=1, le=1_000_000)
    jitter: int | None = Field(default=None, ge=0, le=1000)
    dominance: float | None = Field(default=None, gt=0, le=1)
    scope: Literal["contract", "participant", "product"] | None = None
    debits: int | None = Field(default=None, ge=1, le=10_000)

    @property
    def dominance_ppm(self) -> int | None:
        """`dominance` in parts per million."""
        return None if self.dominance is None else int(Decimal(str(self.dominance)) * 1_000_000)

    @model_validator(mode="after")
    def _exact(self) -> Self:
        share = Decimal(str(self.dominance or 0)) * 1_000_000
        if share != int(share):
            raise ValueError("dominance has at most 6 decimals")
        return self


class DifferentialPrivacyRelease(_Strict):
    """Noisy aggregates with a proof.

    Attributes:
        epsilon, delta: What one computation may cost at most.
        cells_per_unit: In how many cells of a result a unit counts at most.
        rows_per_cell: How many of a unit's rows count in a cell at most.
        budget_epsilon, budget_delta: What everything released about the same people may cost
            together, ever: all computations, contracts, products and versions of the privacy
            domain. Without them that is `epsilon` and `delta`: the one number written is the
            guarantee that people have.
    """

    mode: Literal["dp"]
    epsilon: float = Field(gt=0)
    delta: float = Field(default=0.0, ge=0, lt=1)
    cells_per_unit: int = Field(default=1, ge=1, le=MAX_CONTRIBUTION)
    rows_per_cell: int = Field(default=1, ge=1, le=MAX_CONTRIBUTION)
    budget_epsilon: float | None = Field(default=None, gt=0)
    budget_delta: float | None = Field(default=None, ge=0, lt=1)

    @property
    def computation(self) -> Guarantee:
        """What one computation may cost at most."""
        return _guarantee(self.epsilon, self.delta)

    @property
    def declared_budget(self) -> tuple[float, float] | None:
        """ε and δ of the budget, one left out being a computation's; None if both are."""
        if self.budget_epsilon is None and self.budget_delta is None:
            return None
        return (
            self.epsilon if self.budget_epsilon is None else self.budget_epsilon,
            self.delta if self.budget_delta is None else self.budget_delta,
        )

    @property
    def budget(self) -> Guarantee | None:
        """The declared budget, as it is accounted."""
        declared = self.declared_budget
        return None if declared is None else _guarantee(*declared)

    @model_validator(mode="after")
    def _affordable(self) -> Self:
        cost = cost_of(self.computation, unknown_keys=False)
        if self.budget is not None and not Budget(self.budget).affords(cost):
            raise ValueError(
                "the budget doesn't pay for one computation of this epsilon and delta (with "
                "budget_delta, a computation without delta costs more than its epsilon)"
            )
        return self


def _guarantee(epsilon: float, delta: float) -> Guarantee:
    # YAML reads 0.1 as a float; its shortest text is what the holder wrote.
    exact = Decimal(str(epsilon)), Decimal(str(delta))
    if exact[0] != round(exact[0], _EPSILON_DECIMALS) or exact[1] != round(
        exact[1], _DELTA_DECIMALS
    ):
        raise ValueError(
            f"epsilon has at most {_EPSILON_DECIMALS} decimals, delta at most {_DELTA_DECIMALS}"
        )
    return Guarantee.of(*exact)


class RowsRelease(_Strict):
    """Rows, for data declared releasable at row level."""

    mode: Literal["rows"]
    columns: tuple[ColumnName, ...] | None = None
    max_rows: int | None = Field(default=None, ge=1)


Release = Annotated[
    AggregateRelease | DifferentialPrivacyRelease | RowsRelease, Field(discriminator="mode")
]


class ProductFile(_Strict):
    """A data product as its holder declares it.

    Attributes:
        source, privacy_unit, columns: One table.
        tables: Several tables, instead of those three.
        privacy_domain: Whom it protects; products of one domain protect the same people.
        release: The floor; contracts may only be stricter.
    """

    id: ProductId
    title: LocalizedText | None = None
    description: LocalizedText | None = None
    keywords: tuple[str, ...] = ()
    theme: str | None = None
    classification: Classification = Classification()
    quality_grade: Literal["A", "B", "C", "D"] | None = None
    security_level: int | None = Field(default=None, ge=1, le=5)
    delivery_form: str | None = None
    update_cycle: str | None = None
    source: Source | None = None
    privacy_unit: ColumnName | None = None
    privacy_domain: ColumnName | None = None
    columns: Columns | None = None
    tables: (
        Annotated[dict[ColumnName, TableRule], Field(min_length=1, max_length=MAX_TABLES)] | None
    ) = None
    release: Release

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        single = {"source": self.source, "privacy_unit": self.privacy_unit, "columns": self.columns}
        if self.tables is not None:
            if given := [name for name, value in single.items() if value is not None]:
                raise ValueError(f"`tables` stands instead of {', '.join(given)}")
        elif missing := [name for name, value in single.items() if value is None]:
            raise ValueError(f"missing: {', '.join(missing)} (or `tables` instead)")
        if len({name.lower() for name in self.table_rules}) != len(self.table_rules):
            raise ValueError("two tables differ only in the case of letters: rename one")
        for source in self.unit_sources:
            self._check_columns(source)
        return self

    def _check_columns(self, source: UnitSource) -> None:
        where = f"{source.table}: " if self.tables is not None else ""
        declared = self.table_rules[source.table].columns or {}
        if source.column in declared:
            raise ValueError(
                f"{where}the privacy unit is not declared under `columns`: analysts can only "
                "count it"
            )
        names = {*declared, *source.names}
        if len({name.lower() for name in names}) != len(names):
            raise ValueError(f"{where}two columns differ only in the case of letters: rename one")

    @property
    def table_name(self) -> str:
        """The product's name in SQL: its id, `-` becoming `_`.

        It names the catalog of its tables, and the table of a product of one.
        """
        name = self.id.replace("-", "_")
        return f"{name}_" if name in RESERVED_CATALOGS else name

    @property
    def table_rules(self) -> dict[str, TableRule]:
        """All tables by name, in the file's order, also the one of a product of one."""
        if self.tables is not None:
            return self.tables
        source = self.source.model_dump() if self.source else {}
        rule = TableRule(**source, unit=self.privacy_unit, columns=self.columns)
        return {self.table_name: rule}

    @property
    def unit_sources(self) -> tuple[UnitSource, ...]:
        """Where each table's units come from; each table after the one it refers to."""
        return resolve_units(
            {
                name: (rule.unit.via, rule.unit.on)
                if isinstance(rule.unit, UnitPath)
                else rule.unit
                for name, rule in self.table_rules.items()
            }
        )

    @property
    def domain(self) -> str:
        """Whom it protects, lower-cased: `privacy_domain`, else the first unit column's name.

        Empty if it protects nobody: all tables are public.
        """
        units = [rule.unit for rule in self.table_rules.values()]
        if all(unit is None for unit in units):
            return ""
        first = next(unit for unit in units if isinstance(unit, str))
        return unicodedata.normalize("NFC", (self.privacy_domain or first).lower())


class _Loader(yaml.SafeLoader):
    """YAML with keys given once, and only true/false read as booleans (`on:` is a key here)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or name in seen:
                raise yaml.MarkedYAMLError(
                    problem="a key is given twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tfTF")
)


def parse_product(text: str | bytes, name: str = "the product file") -> ProductFile:
    """Reads a product from YAML text.

    Raises:
        ProductFileError: Not YAML, or not as the schema says; each fault on a line of its own.
    """
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it can't be read"
        raise ProductFileError(f"{name} is not valid YAML{where}: {problem}.") from None
    if not isinstance(document, dict):
        raise ProductFileError(f"{name} must be a mapping that starts with `id:`.")
    try:
        return ProductFile.model_validate(document)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(dict(fault))}" for fault in error.errors(include_url=False))
        raise ProductFileError(f"{name} is not a valid product file:\n{faults}") from None


def _fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"] if part not in {"aggregate", "dp", "rows"})
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key; remove it or correct its spelling"
    return f"{where or 'product'}: {str(fault['msg']).removeprefix('Value error, ')}"


def load_product_file(path: Path | str) -> ProductFile:
    """Reads a product file.

    Raises:
        ProductFileError: It is missing, too large, not YAML or not as the schema says.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ProductFileError(f"{path} can't be read: {error.strerror}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise ProductFileError(f"{path} is larger than 1 MiB; a product file holds no data.")
    return parse_product(data, str(path))
