"""`luoshu catalog`: find products of the space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from luoshu.cli.connection import ProfileOption, open_space
from luoshu.cli.inputs import assignments
from luoshu.cli.output import JsonOption, print_fields, print_result, print_table

if TYPE_CHECKING:
    from luoshu.sdk.product import Product

app = typer.Typer(no_args_is_help=True, help="Find products, in Chinese or English.")


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="Words; empty lists all.")] = "",
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="field=value, repeatable; fields: issuer, level, personal_information, theme, "
            "release_mode.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 20,
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Search the space's catalog; each entry's signature is verified before it is shown."""
    wanted = assignments("--filter", filters or [])
    with open_space(profile) as space:
        products = list(space.search(text, filters=wanted, limit=limit))
    print_result(
        [product.summary() for product in products],
        as_json,
        lambda: print_table(
            ("product", "title", "holder", "level", "offers"),
            [
                (
                    product.id,
                    title(product),
                    product.issuer,
                    product.entry.classification.level,
                    ", ".join(offer.id for offer in product.offers),
                )
                for product in products
            ],
            "Nothing found. Try fewer or other words, in Chinese or English.",
        ),
    )


@app.command()
def show(
    product_id: Annotated[str, typer.Argument(help="As `luoshu catalog search` lists it.")],
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Show one product: its columns, release rules and offers."""
    with open_space(profile) as space:
        product = space.product(product_id)
    print_result(product.summary(), as_json, lambda: _print(product))


def title(product: Product) -> str:
    """The product's title in the languages that it has."""
    return " / ".join(text for text in product.title.values() if text)


def _print(product: Product) -> None:
    entry = product.entry
    print_fields(
        {
            "product": entry.id,
            "version": entry.version,
            "holder": entry.issuer,
            "title": title(product),
            "description": " / ".join(filter(None, (entry.description.en, entry.description.zh))),
            "classification": f"{entry.classification.level}, personal information: "
            f"{entry.classification.personal_information}",
            "protects": entry.privacy_unit,
            "releases": str(entry.release),
            "valid until": entry.valid_until,
        }
    )
    typer.echo("\nColumns")
    print_table(
        ("column", "type", "use"),
        [
            (
                f"{column.table}.{column.name}" if column.table else column.name,
                column.type,
                ", ".join(column.use) or "join",
            )
            for column in entry.columns
        ],
        "none",
    )
    typer.echo("\nOffers")
    print_table(
        ("offer", "purposes", "uses", "until", "queries", "answer"),
        [
            (
                offer.id,
                ", ".join(sorted(offer.terms.purposes or ("any",))),
                offer.terms.uses or "any number",
                offer.terms.not_after or "open",
                ", ".join(template.name for template in offer.terms.templates) or "any SQL",
                offer.answer,
            )
            for offer in entry.offers
        ],
        "none",
    )
