"""What a preparation worker answers, checked against what it was asked.

It reads the holder's files, which may have taken it over: whatever it says, analysts may do no
more with the prepared tables than the product file declares.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import cast

from luoshu.contracts.canonical import JsonObject
from luoshu.sandbox.errors import PreparationError, legible
from luoshu.sandbox.prepared import PreparedProduct, PreparedTable
from luoshu.sandbox.product_file import ProductFile
from luoshu.sandbox.schema import SchemaError, checked_count, exact_fields
from luoshu.sandbox.unit_paths import UnitSource

_FIELDS = ("engine", "tables", "units", "notes")
_MAX_NOTE, _MAX_NOTES = 4096, 10_000
WRONG_ANSWER = (
    "The preparation answered wrongly, and nothing of it is used; look at the source files."
)


def read_answer(answer: dict[str, object]) -> tuple[JsonObject, int]:
    """The worker's part of a manifest, whose reader checks it further, and how many units are new.

    Raises:
        PreparationError: It has another form.
    """
    try:
        fields = exact_fields(answer, "type", "new_units", *_FIELDS)
        new_units = checked_count(fields["new_units"])
    except SchemaError:
        raise PreparationError(WRONG_ANSWER) from None
    if fields["type"] != "prepared":
        raise PreparationError(WRONG_ANSWER)
    notes = fields["notes"]
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise PreparationError(WRONG_ANSWER)
    fields["notes"] = [legible(note, _MAX_NOTE) for note in notes[:_MAX_NOTES]]
    return cast("JsonObject", {name: fields[name] for name in _FIELDS}), new_units


def check_answer(product: ProductFile, prepared: PreparedProduct) -> None:
    """Checks that what was prepared is what was declared.

    Raises:
        PreparationError: It prepared something else.
    """
    for source, table in zip_longest(product.unit_sources, prepared.tables):
        if source is None or table is None or not _is_as_declared(product, source, table):
            raise PreparationError(WRONG_ANSWER)


def _is_as_declared(product: ProductFile, source: UnitSource, table: PreparedTable) -> bool:
    rules = product.table_rules[source.table].columns
    names = [column.name for column in table.columns]
    if (table.name, table.keys, table.is_public) != (source.table, source.keys, source.is_public):
        return False
    if source.column is not None and table.unit != source.column:
        return False
    if table.unit in names or len(set(names)) != len(names):
        return False
    key = product.table_rules[source.table].key
    if key is not None and key not in table.unique:
        return False
    if rules is None:  # a public table, of which everything may be used
        return True
    joins = [name for key in source.keys for name in key.columns if name not in rules]
    return names == [*rules, *dict.fromkeys(joins)] and all(
        column.uses == (rules[column.name].use if column.name in rules else frozenset())
        for column in table.columns
    )
