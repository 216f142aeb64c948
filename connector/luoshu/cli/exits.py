"""From an error to one paragraph on standard error and an exit code.

Exit codes: 0 done; 2 the command was used wrongly (flags, files, SQL that
doesn't parse); 3 denied (policy, guard, role, credential, contract); 4 tried
and failed (computation, verification, something unavailable); 130 interrupted;
1 anything else.

An error that is expected never shows a traceback. One that isn't is a defect:
it is shown as Python shows it, since that is what a report needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.formatting import HelpFormatter

OK, OTHER, USAGE, DENIED, FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130

_BY_STATUS = {
    "INVALID_ARGUMENT": USAGE,
    "UNAUTHENTICATED": DENIED,
    "PERMISSION_DENIED": DENIED,
    "FAILED_PRECONDITION": DENIED,
    "RESOURCE_EXHAUSTED": DENIED,
    "NOT_FOUND": OTHER,
    "ALREADY_EXISTS": OTHER,
    "ABORTED": OTHER,
    "UNAVAILABLE": FAILED,
    "DATA_LOSS": FAILED,
    "DEADLINE_EXCEEDED": FAILED,
    "CANCELLED": FAILED,
    "INTERNAL": FAILED,
}
_BY_REASON = {
    # The state of this machine's own files, not anybody's decision.
    "CONFIGURATION_INVALID": USAGE,
    "SCHEMA_TOO_NEW": FAILED,
    "CATALOG_ENTRY_INVALID": FAILED,
}


class UsageError(Exception):
    """The command can't be done as it was given; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a user is told of an error."""

    paragraph: str
    exit_code: int
    reason: str


def tell(error: BaseException) -> Told | None:
    """What to tell of an expected error; None for a defect."""
    if isinstance(error, UsageError):
        return Told(str(error), USAGE, "USAGE")
    if isinstance(error, BrokenPipeError):
        return None
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
        return Told(f"{what} Check the path, its permissions and the free space.", OTHER, "OS")
    return _of_the_project(error)


def _of_the_project(error: BaseException) -> Told | None:
    # Imported only once something went wrong; none of these is heavy.
    from luoshu.sdk import errors as sdk

    if isinstance(error, sdk.LuoshuError):
        code = OTHER
        if isinstance(error, sdk.DeniedError):
            code = DENIED
        elif isinstance(error, sdk.FailedError):
            code = FAILED
        elif isinstance(error, (sdk.InvalidRequestError, sdk.ProfileError)):
            code = USAGE
        return Told(str(error), code, error.reason)
    if not type(error).__module__.startswith("luoshu."):
        return None
    from luoshu.connector.errors import NodeError, lookup

    reason = getattr(error, "reason", None) or getattr(error, "code", None)
    if not isinstance(reason, str) or lookup(reason) is None:
        # Raised on purpose, by a part that names no reason of the catalogue.
        return Told(str(error), FAILED, str(reason or type(error).__name__))
    told = NodeError.from_reason(error)
    paragraph = told.public
    if told.private and told.reason != "INTERNAL":
        # Offline commands run where the operational log would be: the detail is theirs.
        paragraph = f"{paragraph} ({told.private})"
    code = _BY_REASON.get(told.reason, _BY_STATUS.get(told.status, OTHER))
    return Told(paragraph, code, told.reason)


class StoryGroup(TyperGroup):
    """The root group: commands in the order of the story, errors as paragraphs."""

    story: tuple[str, ...] = ()

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Command names in the order in which a newcomer meets them."""
        names = list(self.commands)
        return sorted(names, key=lambda n: self.story.index(n) if n in self.story else len(names))

    def format_commands(self, ctx: typer.Context, formatter: HelpFormatter) -> None:  # type: ignore[override]
        """Writes the commands, a section for each part of the story."""
        parts: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.commands[name]
            part = str(getattr(command, "rich_help_panel", None) or "Commands")
            parts.setdefault(part, []).append((name, command.get_short_help_str(200)))
        for part, rows in parts.items():
            with formatter.section(part):
                formatter.write_dl(rows)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Runs a command; expected errors end it with a paragraph and an exit code."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            told = tell(error)
            if told is None:
                raise
            typer.echo(f"luoshu: {told.paragraph}", err=True)
            raise typer.Exit(told.exit_code) from error
