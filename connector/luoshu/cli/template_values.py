"""Values of a template, as a holder types them to try it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from luoshu.cli.exits import UsageError
from luoshu.cli.inputs import assignments
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.templates import ParameterType
from luoshu.sandbox.templates import BoundParameter

_TYPES = (
    ParameterType.INTEGER,
    ParameterType.DECIMAL,
    ParameterType.BOOLEAN,
    ParameterType.DATE,
    ParameterType.TEXT,
)
"""In the order in which a value without a type is taken for one."""


def template_values(
    items: Sequence[str], statements: Mapping[str, str]
) -> tuple[BoundParameter, ...]:
    """Reads `name=value` or `name:type=value` of the option --set.

    Without a type, a value is an integer, a decimal, a boolean or a date if it is spelt as one,
    and text otherwise.

    Args:
        items: As typed.
        statements: What is run, each with the same values.

    Raises:
        UsageError: A value that isn't of its type, or that no statement has a place for.
    """
    found = []
    for key, values in assignments("--set", items).items():
        name, _, kind = key.partition(":")
        if len(values) > 1:
            raise UsageError(f"--set {name} is given twice; run the query once for each value.")
        place = re.compile(rf"\${re.escape(name)}(?![A-Za-z0-9_])")
        if not any(place.search(sql) for sql in statements.values()):
            raise UsageError(f"--set {name}: the SQL has no ${name}.")
        found.append(_bound(name, kind, values[0]))
    return tuple(found)


def _bound(name: str, kind: str, text: str) -> BoundParameter:
    if kind and kind not in set(ParameterType):
        raise UsageError(f"--set {name}:{kind}: the types are {', '.join(sorted(_TYPES))}.")
    for each in [ParameterType(kind)] if kind else _TYPES:
        try:
            value = each.read(text)
        except DocumentError as error:
            if kind:
                raise UsageError(f"--set {name}: the value {error.message}.") from None
            continue
        return BoundParameter(
            name, each.value, str(value).lower() if isinstance(value, bool) else str(value)
        )
    raise UsageError(f"--set {name}: the value can't be read.")
