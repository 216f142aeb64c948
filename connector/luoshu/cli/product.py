"""`luoshu product`: what a holder offers."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luoshu.cli.connection import ProfileOption, open_space
from luoshu.cli.exits import UsageError
from luoshu.cli.output import JsonOption, print_fields, print_result, print_table, progress

if TYPE_CHECKING:
    from luoshu.contracts.canonical import JsonValue

app = typer.Typer(no_args_is_help=True, help="Prepare, publish and withdraw products.")


@app.command()
def prepare(
    product_file: Annotated[Path, typer.Argument(help="The product file, YAML.")],
    node: Annotated[Path, typer.Option("--node", help="The holder's node directory.")],
    as_json: JsonOption = False,
) -> None:
    """Load a product's data into the node: declared columns only, isolated. The node may run."""
    from contextlib import closing

    from luoshu.connector.config import load_settings
    from luoshu.connector.products import prepare_on_node
    from luoshu.sandbox.run import Sandbox

    config = load_settings(node).sandbox.isolation_config()
    with closing(Sandbox.start(config)) as sandbox, progress(f"preparing {product_file.name}"):
        prepared = prepare_on_node(node, product_file, sandbox.isolation)
    facts = {
        "product": prepared.id,
        "digest": prepared.digest,
        "rows": prepared.rows,
        "units": prepared.units,
        "tables": [table.name for table in prepared.tables],
        "columns": [column.name for column in prepared.columns],
        "notes": list(prepared.notes),
    }
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command()
def publish(
    product: Annotated[str, typer.Argument(help="Local id, as in the product file.")],
    offers: Annotated[Path, typer.Option(help="Offers, YAML or JSON; see docs/contracts.md.")],
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Sign the product's entry and publish it to the space's catalog."""
    document = read_document(offers)
    with open_space(profile) as space:
        published = space.publish(product, document)
    facts = {
        "product_id": published.product_id,
        "version": published.version,
        "log_index": published.log_index,
    }
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command()
def withdraw(
    product_id: Annotated[str, typer.Argument(help="Product id, as published.")],
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Withdraw an entry from the catalog by a signed tombstone; contracts go on."""
    with open_space(profile) as space:
        index = space.withdraw(product_id)
    facts = {"product_id": product_id, "log_index": index}
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command("list")
def list_products(as_json: JsonOption = False, profile: ProfileOption = None) -> None:
    """List the products prepared on this node."""
    with open_space(profile) as space:
        products = space.local_products()
    rows = [
        {"product": p.product, "product_id": p.product_id, "version": p.version, "state": p.state}
        for p in products
    ]
    print_result(
        rows,
        as_json,
        lambda: print_table(
            ("product", "state", "version", "product id"),
            [(r["product"], r["state"], r["version"] or "", r["product_id"]) for r in rows],
            "No products. `luoshu product prepare` makes one.",
        ),
    )


def read_document(path: Path) -> JsonValue:
    """Reads YAML (of which JSON is a part) as plain JSON values.

    Raises:
        UsageError: It can't be parsed.
    """
    import yaml

    try:
        value: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise UsageError(f"{path}{line}: this is neither YAML nor JSON.") from error
    return _plain(value)


def _plain(value: object) -> JsonValue:
    """YAML reads dates as dates; JSON, and what is signed, holds text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dt.date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | str):
        return value
    raise UsageError(f"A {type(value).__name__} has no place in an offer.")
