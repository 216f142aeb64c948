"""Which query a request stands for: its own SQL, or a template of its contract with values."""

from __future__ import annotations

from collections.abc import Mapping

from luoshu.connector.compute.outcome import Refusal
from luoshu.contracts.canonical import JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.request import ComputationRequest
from luoshu.contracts.templates import QueryTemplate, Scalar, TemplateParameter, find_template
from luoshu.contracts.terms import Terms
from luoshu.sandbox.templates import BoundParameter, Query

__all__ = ["bound_template", "query_of", "template_refusal"]


def template_refusal(terms: Terms, request: ComputationRequest) -> Refusal | None:
    """Why the contract doesn't allow this query; None if it does.

    It depends on the contract's text and on the request alone, never on data.
    """
    if terms.templates and request.template is None:
        names = ", ".join(template.name for template in terms.templates)
        return Refusal(
            "TEMPLATE_REQUIRED", f"The contract allows its query templates only: {names}."
        )
    try:
        query_of(terms, request)
    except DocumentError as error:
        text = f"{error.message[:1].upper()}{error.message[1:]}."
        return Refusal("TEMPLATE_DENIED", text, "template")
    return None


def query_of(terms: Terms, request: ComputationRequest) -> Query:
    """The query to be computed.

    Raises:
        DocumentError: The contract has no such template, or doesn't allow these values.
    """
    call = request.template
    if call is None:
        return Query(request.sql or "")
    return bound_template(find_template(terms.templates, call.name), dict(call.parameters))


def bound_template(template: QueryTemplate, values: Mapping[str, JsonValue]) -> Query:
    """A template with values.

    Raises:
        DocumentError: It doesn't allow these values.
    """
    bound = template.bind(values)
    return Query(template.sql, tuple(_literal(parameter, value) for parameter, value in bound))


def _literal(parameter: TemplateParameter, value: Scalar) -> BoundParameter:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return BoundParameter(parameter.name, parameter.type.value, text)
