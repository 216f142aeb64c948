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
        use: What queries may do with it.
    """

    name: str
    type: str
    use: tuple[ColumnUse, ...]

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"name": self.name, "type": self.type, "use": [use.value for use in self.use]}

    @classmethod
    def from_payload(cls, value: JsonValue) -> Column:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "column", {"name", "type", "use"})
        return cls(
            fields.string("name", check_column),
            fields.string("type", _check_type),
            fields.choices("use", ColumnUse, minimum=1),
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
