"""Generated from the settings themselves: a commented ``node.toml`` and the reference page.

    python -m luoshu.connector.config_reference docs     # writes docs/configuration.md
    python -m luoshu.connector.config_reference template # writes node.toml

run in the repository's top folder. A test compares both with what is committed.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from luoshu.connector.config import ENVIRONMENT_PREFIX, FILE_NAME, Setting, sections, settings
from luoshu.connector.errors import NodeError

_WIDTH: Final = 96
_EXAMPLE: Final = {
    "node.participant": "urn:luoshu:alliance:hospital-a",
    "node.roles": ["holder"],
    "peer.listen": "0.0.0.0:7400",
}


def node_toml(values: Mapping[str, object]) -> str:
    """Returns a commented ``node.toml``: these values set, every other one as a comment.

    Args:
        values: Dotted name to value; `node.participant` and `node.roles` must be there.

    Raises:
        NodeError: CONFIGURATION_INVALID if a name is no setting or a required one is missing.
    """
    known = {setting.name: setting for setting in settings()}
    for name in values:
        if name not in known:
            raise NodeError("CONFIGURATION_INVALID", f"{name} is no setting.")
    for setting in known.values():
        if setting.required and setting.name not in values:
            raise NodeError("CONFIGURATION_INVALID", f"{setting.name} is missing.")
    lines = [
        "# Configuration of a Luoshu node. Lines that begin with # show defaults or examples.",
        f"# Environment variables win over this file (sandbox.threads is {ENVIRONMENT_PREFIX}"
        "SANDBOX__THREADS),",
        "# and `luoshu node serve --set sandbox.threads=4` over both. An unknown key is an error.",
    ]
    for section, model in sections().items():
        lines += ["", *_comment(_summary(model)), f"[{section}]"]
        for setting in (s for s in known.values() if s.section == section):
            lines += _comment(setting.description)
            if setting.name in values:
                lines.append(f"{setting.key} = {_toml(values[setting.name])}")
            else:
                lines.append(f"# {setting.key} = {_toml(setting.example)}")
    return "\n".join(lines) + "\n"


def reference_page() -> str:
    """Returns docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "<!-- Generated: python -m luoshu.connector.config_reference docs -->",
        "",
        f"A node reads `{FILE_NAME}` in its directory, then environment variables, then `--set` of",
        "`luoshu node serve`; the later wins. A name that doesn't exist is refused wherever it",
        "comes from, with the nearest one that does. Lists are written with commas in the",
        "environment and in `--set`. The operator's address is no setting: it comes with the",
        "space's trust anchor, `credentials/space.json`. `luoshu node init` writes a commented",
        f"`{FILE_NAME}`; an example is in the repository's top folder.",
    ]
    for section, model in sections().items():
        lines += ["", f"## `[{section}]`", "", _summary(model), ""]
        lines += ["| key | default | allowed | what it does |", "|---|---|---|---|"]
        for setting in settings():
            if setting.section == section:
                field = model.model_fields[setting.key]
                lines.append(
                    f"| `{setting.key}` | {_default(setting)} | {_allowed(field)} "
                    f"| {setting.description}<br>`{setting.environment_variable}` |"
                )
    return "\n".join(lines) + "\n"


def example_toml() -> str:
    """Returns the example node.toml of the repository."""
    return node_toml(_EXAMPLE)


def _summary(model: type) -> str:
    return (model.__doc__ or "").splitlines()[0]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str | bool | int | float | list):
        return json.dumps(value, ensure_ascii=False)  # for these TOML writes as JSON does
    raise TypeError(f"a {type(value).__name__} has no place in {FILE_NAME}")


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    return "none" if setting.default is None else f"`{_toml(setting.default)}`"


def _allowed(field: FieldInfo) -> str:
    choices = _choices(field.annotation)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    return ", ".join(_bounds(field)) or "any"


def _choices(annotation: object) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _bounds(field: FieldInfo) -> Iterator[str]:
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge():
                yield f"≥ {bound.ge}"
            case annotated_types.Gt():
                yield f"> {bound.gt}"
            case annotated_types.Le():
                yield f"≤ {bound.le}"


def main(arguments: list[str]) -> int:
    """Writes the file that the argument names; returns the exit code."""
    targets = {
        "docs": (Path("docs/configuration.md"), reference_page),
        "template": (Path(FILE_NAME), example_toml),
    }
    if len(arguments) != 1 or arguments[0] not in targets:
        sys.stderr.write(f"Name one of: {', '.join(targets)}\n")
        return 2
    path, make = targets[arguments[0]]
    path.write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
