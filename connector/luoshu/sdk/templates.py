"""A template's values, from Python's or a person's to those that are signed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal

from luoshu.contracts.errors import DocumentError
from luoshu.contracts.templates import Scalar, TemplateCall, TemplateParameter, find_template
from luoshu.contracts.terms import Terms


def call_of(terms: Terms, name: str, values: Mapping[str, object]) -> TemplateCall:
    """A template's call with values that the contract allows.

    Args:
        terms: The contract's.
        name: Of the template.
        values: By parameter; of its type in Python, or the text that a person would type.

    Raises:
        DocumentError: No such template or parameter, a value is missing or isn't allowed.
    """
    template = find_template(terms.templates, name)
    known = {parameter.name: parameter for parameter in template.parameters}
    read = {
        key: _value(known[key], value) if key in known else str(value)
        for key, value in values.items()
    }
    return TemplateCall.of(
        name, {parameter.name: value for parameter, value in template.bind(read)}
    )


def _value(parameter: TemplateParameter, value: object) -> Scalar:
    if isinstance(value, str):
        try:
            return parameter.type.read(value)
        except DocumentError as error:
            raise DocumentError(f"parameter {parameter.name} {error.message}") from None
    if isinstance(value, int):
        # An integer is a decimal too; true is neither.
        return parameter.type.read(str(value)) if not isinstance(value, bool) else value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    raise DocumentError(
        f"parameter {parameter.name} must be a text, an integer, a Decimal, a date, or a boolean"
    )
