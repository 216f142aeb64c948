"""`luoshu space`: what an operator does to run a data space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.connection import ProfileOption, open_space
from luoshu.cli.inputs import MemberRole, utc_now
from luoshu.cli.output import JsonOption, print_fields, print_result, print_table

app = typer.Typer(no_args_is_help=True, help="Create a space; approve and revoke its members.")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="New directory for the authority's keys.")],
    name: Annotated[str, typer.Option(help="Name of the space: a-z, 0-9 and hyphens.")],
    endpoint: Annotated[
        str, typer.Option(help="host:port at which members reach the operator's node.")
    ],
    operator: Annotated[str, typer.Option(help="Name of the operator's node.")] = "operator",
    as_json: JsonOption = False,
) -> None:
    """Create a space: its authority key and CA. Keep this directory off the serving machine."""
    from luoshu.connector.membership.space import init_space

    trust = init_space(
        directory, name, operator_name=operator, operator_endpoint=endpoint, now=utc_now()
    )
    facts = {
        "space": trust.space,
        "operator": trust.operator_id,
        "operator_endpoint": trust.operator_endpoint,
        "fingerprint": trust.digest,
        "directory": str(directory),
    }
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command()
def approve(
    space: Annotated[Path, typer.Argument(help="The space's directory.")],
    request: Annotated[Path, typer.Argument(help="Request that `luoshu node init` made.")],
    grant: Annotated[Path, typer.Option("-o", "--output", help="Write the grant here.")],
    role: Annotated[
        list[MemberRole] | None,
        typer.Option("--role", help="Grant these roles only; repeatable. Default: as asked."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Admit new keys under a name that was used before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Admit a node: sign its membership credential and certificate."""
    from luoshu.connector.membership.space import approve_request
    from luoshu.contracts.membership import Role

    roles = None if role is None else [Role(each.value) for each in role]
    credential = approve_request(space, request, grant, now=utc_now(), roles=roles, replace=replace)
    facts = {
        "participant": credential.participant_id,
        "roles": [each.value for each in credential.roles],
        "valid_until": credential.not_after,
        "grant": str(grant),
    }
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command()
def revoke(
    participant: Annotated[str, typer.Argument(help="Participant id, see `luoshu space members`.")],
    reason: Annotated[str, typer.Option(help="Why; goes to the log.")],
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Revoke a member and push the new status list. Needs a profile of the operator's node."""
    with open_space(profile) as space:
        version = space.revoke_member(participant, reason)
    facts = {"participant": participant, "status_list_version": version}
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command()
def members(as_json: JsonOption = False, profile: ProfileOption = None) -> None:
    """List the members; each credential is verified against the authority's key."""
    with open_space(profile) as space:
        credentials = space.members()
    rows = [
        {
            "participant": c.participant_id,
            "roles": [role.value for role in c.roles],
            "jurisdiction": c.jurisdiction,
            "valid_until": c.not_after,
        }
        for c in credentials
    ]
    print_result(
        rows,
        as_json,
        lambda: print_table(
            ("participant", "roles", "jurisdiction", "valid until"),
            [
                (r["participant"], ", ".join(c.roles), r["jurisdiction"], r["valid_until"])
                for r, c in zip(rows, credentials, strict=True)
            ],
            "No members.",
        ),
    )
