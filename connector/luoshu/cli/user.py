"""`luoshu user`: people who may use a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.output import JsonOption, print_fields, print_result, print_table

app = typer.Typer(no_args_is_help=True, help="Add and revoke a node's users.")

_Node = Annotated[Path, typer.Argument(help="The node's directory.")]
_Name = Annotated[str, typer.Argument(help="User name: a-z, 0-9 and hyphens.")]


@app.command()
def add(
    node: _Node,
    name: _Name,
    role: Annotated[list[str], typer.Option("--role", help="admin, analyst, auditor; repeatable.")],
    out: Annotated[Path, typer.Option(help="Write the user's profile to this new directory.")],
    as_json: JsonOption = False,
) -> None:
    """Enrol a user's signing key and write the profile that the user works with."""
    from luoshu.connector.membership.users import add_user

    credential = add_user(node, name, role, out)
    facts = {"user": credential.user_id, "roles": sorted(credential.roles), "profile": str(out)}
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command()
def revoke(node: _Node, name: _Name, as_json: JsonOption = False) -> None:
    """Revoke a user; takes effect at the user's next call."""
    from luoshu.connector.membership.users import revoke_user

    revoke_user(node, name)
    facts = {"user": name, "revoked": True}
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command("list")
def list_users(node: _Node, as_json: JsonOption = False) -> None:
    """List the node's users."""
    from luoshu.connector.membership.users import list_users as users_of

    rows = [
        {"user": u.user_id, "roles": sorted(u.roles), "valid_until": u.not_after}
        for u in users_of(node)
    ]
    print_result(
        rows,
        as_json,
        lambda: print_table(
            ("user", "roles", "valid until"),
            [(r["user"], ", ".join(r["roles"]), r["valid_until"]) for r in rows],
            "No users. `luoshu user add` enrols one.",
        ),
    )
