"""How commands that need a node reach it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from luoshu.sdk.space import DataSpace

ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        envvar="LUOSHU_PROFILE",
        show_envvar=True,
        help="Directory that `luoshu user add` made.",
    ),
]


def open_space(profile: Path | None, *, timeout: float = 30.0) -> DataSpace:
    """Connects to the node of the profile; use as a context manager."""
    from luoshu.sdk import connect

    return connect(profile, timeout=timeout)
