"""Facts that a catalog entry states of its product: vocabulary, columns, classification."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields, check_text

_COLUMN = re.compile(r"[^\W\d]\w{0,62}")
_COLUMN_TYPE = re.compile(r"[A-Z][A-Z0-9_ (),]{0,63}")


class ClassificationLevel(StrEnum):
    """GB/T 43697-2024 levels."""

    GENERAL = "general"
    IMPORTANT = "important"
    CORE = "core"


class PersonalInformation(StrEnum):
    """Whether a product is about persons."""

    NONE = "none"
    NON_SENSITIVE = "non-sensitive"
    SENSITIVE = "sensitive"


class QualityGrade(StrEnum):
    """Quality grades of the catalog specification, A the best."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"


class DeliveryForm(StrEnum):
    """Delivery forms of the catalog specification."""

    DATASET = "001"
    API = "002"
    APPLICATION = "003"
    REPORT = "004"
    DATA_OBJECT = "005"
    OTHER = "006"


class ColumnUse(StrEnum):
    """What an analyst's query may do with a column."""

    GROUP = "group"
    FILTER = "filter"
    AGGREGATE = "aggregate"


@dataclass(frozen=True, slots=True)
class Column:
    """A column that exists for analysts.

    Attributes:
        name: A word of letters, digits and underscores, in any script.
        type: SQL type, upper case.
        use: What queries may do with it; empty if it only joins tables.
        table: The table it belongs to, in a product of several; None in a product of one.
    """

    name: str
    type: str
    use: tuple[ColumnUse, ...]
    table: str | None = None

    def to_payload(self) -> JsonObject:
        """The JSON form; a product of one table names none."""
        payload: JsonObject = {
            "name": self.name,
            "type": self.type,
            "use": [use.value for use in self.use],
        }
        return payload if self.table is None else {**payload, "table": self.table}

    @classmethod
    def from_payload(cls, value: JsonValue) -> Column:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "column", {"name", "type", "use"}, {"table"})
        of_several = "table" in fields
        return cls(
            fields.string("name", check_column),
            fields.string("type", _check_type),
            fields.choices("use", ColumnUse, minimum=0 if of_several else 1),
            fields.string("table", check_column) if of_several else None,
        )


@dataclass(frozen=True, slots=True)
class TableKey:
    """Columns of a table whose values belong to one privacy unit each.

    Attributes:
        domain: What they name, such as `orders(o_orderkey)`: tables whose keys share it can be
            joined by equality of these columns.
        columns: In the domain's order.
    """

    domain: str
    columns: tuple[str, ...]

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"domain": self.domain, "columns": list(self.columns)}

    @classmethod
    def from_payload(cls, value: JsonValue) -> TableKey:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "key", {"domain", "columns"})
        columns = fields.strings("columns", check_column, minimum=1)
        return cls(fields.text("domain", max_length=400), columns)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a product of several.

    Attributes:
        name: A word, as columns are.
        unit: Its column that names the privacy unit; None if only a key tells it.
        keys: What else tells the unit of a row.
    """

    name: str
    unit: str | None
    keys: tuple[TableKey, ...]

    @property
    def is_public(self) -> bool:
        """Whether its rows belong to nobody: nothing tells a unit."""
        return self.unit is None and not self.keys

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "name": self.name,
            "unit": self.unit,
            "keys": [key.to_payload() for key in self.keys],
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> Table:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "table", {"name", "unit", "keys"})
        return cls(
            fields.string("name", check_column),
            fields.nullable("unit", check_column),
            fields.array("keys", TableKey.from_payload, maximum=16),
        )


@dataclass(frozen=True, slots=True)
class Classification:
    """How protected the data is.

    Attributes:
        level: GB/T 43697-2024 level.
        personal_information: Whether it is about persons.
        subjects: Number of persons or entities it is about.
    """

    level: ClassificationLevel
    personal_information: PersonalInformation
    subjects: int

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "level": self.level.value,
            "personal_information": self.personal_information.value,
            "subjects": self.subjects,
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> Classification:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "classification", {"level", "personal_information", "subjects"})
        return cls(
            fields.choice("level", ClassificationLevel),
            fields.choice("personal_information", PersonalInformation),
            fields.integer("subjects"),
        )


def check_column(text: str) -> str:
    """Returns ``text`` if it can name a column.

    Raises:
        DocumentError: It can't.
    """
    check_text(text, max_length=63)
    if _COLUMN.fullmatch(text) is None:
        raise DocumentError("a column name must be a word that doesn't begin with a digit")
    return text


def _check_type(text: str) -> None:
    if _COLUMN_TYPE.fullmatch(text) is None:
        raise DocumentError("a column type must be an SQL type in upper case")
