"""`luoshu node`: set up and run a node."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.connection import ProfileOption, open_space
from luoshu.cli.inputs import MemberRole, assignments, utc_now
from luoshu.cli.output import JsonOption, note, print_fields, print_result

app = typer.Typer(no_args_is_help=True, help="Set up, enrol and run a node.")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="New directory of the node.")],
    space: Annotated[str, typer.Option(help="Name of the space to join.")],
    name: Annotated[str, typer.Option(help="Name of the participant: a-z, 0-9 and hyphens.")],
    role: Annotated[list[MemberRole], typer.Option("--role", help="Role to ask for; repeatable.")],
    endpoint: Annotated[
        str | None,
        typer.Option(help="host:port at which other nodes reach it; none: it only dials out."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(help="host:port to listen on for other nodes, if not --endpoint itself."),
    ] = None,
    user_listen: Annotated[
        str | None, typer.Option(help="host:port to listen on for the node's own users.")
    ] = None,
    jurisdiction: Annotated[str, typer.Option(help="Law it is under, ISO 3166.")] = "CN",
    title_en: Annotated[str, typer.Option(help="Name for people, English.")] = "",
    title_zh: Annotated[str, typer.Option(help="Name for people, Chinese.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a node's keys, node.toml and the request that the operator approves."""
    from luoshu.connector.membership.node_files import init_node
    from luoshu.contracts.localized import LocalizedText
    from luoshu.contracts.membership import Role

    request = init_node(
        directory,
        space=space,
        name=name,
        display_name=LocalizedText(title_en, title_zh) if title_en or title_zh else None,
        roles=[Role(each.value) for each in role],
        jurisdiction=jurisdiction,
        peer_listen=listen or endpoint,
        peer_advertise=endpoint if listen else None,
        user_listen=user_listen,
        now=utc_now(),
    )
    facts = {"node": str(directory), "request": str(request)}
    print_result(facts, as_json, lambda: print_fields(facts))
    if not as_json:
        note(f"Send {request} to the operator, who runs `luoshu space approve`.")


@app.command()
def enrol(
    directory: Annotated[Path, typer.Argument(help="The node's directory.")],
    grant: Annotated[Path, typer.Argument(help="Grant that `luoshu space approve` made.")],
    fingerprint: Annotated[
        str | None,
        typer.Option(help="Of the space, as told over another channel; refused if it differs."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take the operator's grant: check it against the own keys and keep it."""
    from luoshu.connector.membership.node_files import enrol_node

    credential = enrol_node(
        directory, grant.read_bytes(), now=utc_now(), expected_space=fingerprint
    )
    facts = {
        "participant": credential.participant_id,
        "roles": [each.value for each in credential.roles],
        "valid_until": credential.not_after,
    }
    print_result(facts, as_json, lambda: print_fields(facts))


@app.command()
def serve(
    directory: Annotated[Path, typer.Argument(help="The node's directory.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE over node.toml and environment; repeatable."),
    ] = None,
    lifeline: Annotated[
        bool, typer.Option("--lifeline", help="End also when standard input closes.")
    ] = False,
) -> None:
    """Run the node until it is interrupted."""
    overrides = {key: values[-1] for key, values in assignments("--set", settings or []).items()}
    from luoshu.connector.node import serve as serve_node

    serve_node(directory, overrides, lifeline=lifeline)


@app.command()
def status(as_json: JsonOption = False, profile: ProfileOption = None) -> None:
    """Show what the profile's node is and how it fares."""
    with open_space(profile) as space:
        node = space.node()
    valid_until = dt.datetime.fromtimestamp(node.status_list_valid_until, dt.UTC)
    facts = {
        "participant": node.participant_id,
        "roles": list(node.roles),
        "version": node.version,
        "log_size": node.log_size,
        "status_list_valid_until": valid_until.isoformat(),
    }
    print_result(facts, as_json, lambda: print_fields(facts))
