"""`luoshu user`: people who may use a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.inputs import UserRoleName, utc_now
from luoshu.cli.output import JsonOption, print_fields, print_result, print_table

app = typer.Typer(no_args_is_help=True, help="Add and revoke a node's users.")

_Node = Annotated[Path, typer.Argument(help="The node's directory.")]
_Name = Annotated[str, typer.Argument(help="User name: a-z, 0-9 and hyphens.")]


@app.command()
def add(
    node: _Node,
    name: _Name,
    role: Annotated[list[UserRoleName], typer.Option("--role", help="Repeatable.")],
    out: Annotated[Path, typer.Option(help="Write the user's profile to this new directory.")],
    address: Annotated[
        str | None,
        typer.Option(
            help="host:port of the node's user API, as the user dials it; default: as configured."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol a user's signing key and write the profile that the user works with."""
    from luoshu.connector.membership.users import add_user
    from luoshu.contracts.membership import UserRole

    if address is None:
        from luoshu.connector.config import load_settings

        address = load_settings(node).user.listen
    credential = add_user(
        node,
        name,
        [UserRole(each.value) for each in role],
        out,
        address=address,
        now=utc_now(),
    )
    facts = {
        "user": credential.user_id,
        "roles": [each.value for each in credential.roles],
        "valid_until": credential.not_after,
        "profile": str(out),
    }
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command()
def revoke(node: _Node, name: _Name, as_json: JsonOption = False) -> None:
    """Revoke a user; takes effect at the user's next call."""
    from luoshu.connector.membership.users import revoke_user

    revoke_user(node, name, now=utc_now())
    facts = {"user": name, "revoked": True}
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command("list")
def list_users(node: _Node, as_json: JsonOption = False) -> None:
    """List the node's users."""
    from luoshu.connector.membership.users import list_users as users_of

    users = users_of(node, now=utc_now())
    print_result(
        [
            {
                "user": user.user_id,
                "roles": [role.value for role in user.roles],
                "valid_until": user.not_after,
            }
            for user in users
        ],
        as_json,
        lambda: print_table(
            ("user", "roles", "valid until"),
            [(user.user_id, ", ".join(user.roles), user.not_after) for user in users],
            "No users. `luoshu user add` enrols one.",
        ),
    )
