"""Templates are tried before they are offered: what nobody could run is published by nobody.

The guard verifies each template of each offer as it would for a computation, with values that the
offer allows, in workers that are thrown away after that. No row is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luoshu.connector.compute.ports import SandboxPort
from luoshu.connector.compute.templates import bound_template
from luoshu.connector.errors import NodeError
from luoshu.connector.release_rules import effective_rules
from luoshu.contracts.offer import Offer
from luoshu.contracts.templates import QueryTemplate, Scalar, TemplateParameter
from luoshu.sandbox.errors import (
    GuardRefusalError,
    QueryError,
    SandboxFailureError,
    SandboxUnavailableError,
)
from luoshu.sandbox.prepared import PreparedProduct

__all__ = ["TemplateCheck", "sample_calls"]


class TemplateCheck:
    """Tries the templates of offers. Holds no state."""

    def __init__(self, sandbox: SandboxPort | None) -> None:
        """Builds it; without a sandbox no template can be offered."""
        self._sandbox = sandbox

    async def check(self, product: PreparedProduct, offers: Sequence[Offer]) -> None:
        """Requires that each template can be run with the values that its offer allows.

        Args:
            product: What the offers are for.
            offers: With the release rules that the guard goes by.

        Raises:
            NodeError: TEMPLATE_INVALID, naming offer, template and what the guard says of it;
                SANDBOX_UNAVAILABLE, they can't be tried here.
        """
        for offer in offers:
            for template in offer.terms.templates:
                for values in sample_calls(template):
                    await self._try(product, offer, template, values)

    async def _try(
        self,
        product: PreparedProduct,
        offer: Offer,
        template: QueryTemplate,
        values: dict[str, Scalar],
    ) -> None:
        if self._sandbox is None:
            raise NodeError("SANDBOX_UNAVAILABLE")
        query = bound_template(template, values)
        rules = effective_rules(offer.terms.release, product)
        try:
            async with self._sandbox.computation(
                [product], rules, query.sql, None, query.parameters
            ) as computation:
                await computation.verify()
        except (GuardRefusalError, QueryError) as refused:
            given = ", ".join(f"{name}={value}" for name, value in values.items())
            raise NodeError(
                "TEMPLATE_INVALID",
                f"Offer {offer.id}: nobody could run the template {template.name}"
                f"{f' with {given}' if given else ''} ({refused.code}): {refused.message}",
            ) from None
        except SandboxUnavailableError as error:
            raise NodeError("SANDBOX_UNAVAILABLE", private=error.message) from error
        except SandboxFailureError as error:
            raise NodeError("QUERY_FAILED", private=error.detail) from error


def sample_calls(template: QueryTemplate) -> Iterator[dict[str, Scalar]]:
    """Values to try a template with: of each range the ends, of each list first, middle and last.

    Each stands in one call at least, beside those of the other parameters.
    """
    samples = {each.name: _sample(each) for each in template.parameters}
    for number in range(max(map(len, samples.values()), default=1)):
        yield {name: values[min(number, len(values) - 1)] for name, values in samples.items()}


def _sample(parameter: TemplateParameter) -> tuple[Scalar, ...]:
    values = parameter.bounds or parameter.values
    return tuple(dict.fromkeys((values[0], values[len(values) // 2], values[-1])))
