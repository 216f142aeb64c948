"""What a node or a sandbox lacks on this machine, with the exact remedy.

`examine` runs every check by itself: one that fails, even in a way nobody thought of, is a
finding and stops no other. It changes nothing, starts no node and opens no database for writing,
so it can be run beside a node that serves.
"""

import importlib.metadata
import platform
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from luoshu.connector.config import load_settings
from luoshu.connector.doctor_node import node_checks
from luoshu.connector.errors import NodeError
from luoshu.connector.findings import Check, Finding, Level

__all__ = ["Finding", "Level", "examine"]

_MIN_PYTHON: Final = (3, 11)
_MIN_GLIBC: Final = (2, 28)
_MACHINES: Final = frozenset({"x86_64", "aarch64"})
_ISOLATIONS: Final = {"bwrap": "bubblewrap", "docker": "Docker"}
_RELEASED: Final = datetime(2026, 1, 1, tzinfo=UTC)  # no clock that is right shows less
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)")


def examine(
    node: Path | None = None,
    *,
    now: datetime | None = None,
    only: Collection[str] | None = None,
) -> list[Finding]:
    """Examines this machine and, if it is named, a node's directory.

    Args:
        node: The node's directory.
        now: Aware UTC; the machine's clock by default.
        only: Names of the checks to run; all of them by default.

    Returns:
        One finding or more for each check, in the order of the checks.
    """
    moment = datetime.now(UTC) if now is None else now
    checks: dict[str, Check] = {
        "python": _python,
        "packages": _packages,
        "policy": _policy,
        "isolation": lambda: _isolation(node),
        "clock": lambda: _clock(moment),
    }
    if node is not None:
        checks |= node_checks(node, moment)
    return [
        finding
        for name, check in checks.items()
        if only is None or name in only
        for finding in _run(name, check)
    ]


def _run(name: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - a check that breaks is itself a finding
        yield Finding(
            name,
            Level.MISSING,
            f"The check itself failed ({type(error).__name__}).",
            "Report it with the output of `luoshu doctor --json`.",
        )


# ---- the machine


def _python() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    system, machine = platform.system(), platform.machine()
    library, library_version = platform.libc_ver()
    number = tuple(int(part) for part in library_version.split(".") if part.isdigit())
    detail = f"Python {version} on {system} {machine}, {library or 'libc'} {library_version}"
    if sys.version_info < _MIN_PYTHON:
        yield Finding("python", Level.MISSING, detail, "Install Python 3.11 or newer.")
    elif system != "Linux" or machine not in _MACHINES or library != "glibc" or number < _MIN_GLIBC:
        yield Finding(
            "python",
            Level.MISSING,
            detail,
            "Run the node on Linux x86-64 or aarch64 with glibc 2.28 or newer.",
        )
    else:
        yield Finding("python", Level.OK, detail)


def _packages() -> Iterator[Finding]:
    try:
        wanted = importlib.metadata.requires("luoshu") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", Level.MISSING, "luoshu isn't installed.", "pip install luoshu")
        return
    absent = []
    present = 0
    for requirement in wanted:
        match = _REQUIREMENT.match(requirement)
        if match is None or "extra ==" in requirement:
            continue
        try:
            importlib.metadata.version(match[1])
            present += 1
        except importlib.metadata.PackageNotFoundError:
            absent.append(match[1])
    if absent:
        yield Finding(
            "packages",
            Level.MISSING,
            f"Packages are missing: {', '.join(sorted(absent))}.",
            f"{sys.executable} -m pip install {' '.join(sorted(absent))}",
        )
    else:
        yield Finding("packages", Level.OK, f"all {present} required packages are installed")


def _policy() -> Iterator[Finding]:
    from luoshu.policies import PoliciesError, load_default_engine  # noqa: PLC0415 - slow to import

    try:
        engine = load_default_engine()
        engine.decide({})
    except PoliciesError as error:
        remedy = "Install luoshu again: pip install --force-reinstall luoshu"
        yield Finding("policy", Level.MISSING, error.private or error.public, remedy)
    else:
        yield Finding("policy", Level.OK, f"the shipped policy decides ({engine.policy_digest})")


def _isolation(node: Path | None) -> Iterator[Finding]:
    # Imported here: the sandbox's launcher is started by it, and only this check needs it.
    from luoshu.sandbox.isolation.port import IsolationConfig  # noqa: PLC0415
    from luoshu.sandbox.run import Sandbox  # noqa: PLC0415

    config = IsolationConfig()
    if node is not None:
        with suppress(NodeError):  # which the check of the configuration finds
            config = load_settings(node).sandbox.isolation_config()
    with closing(Sandbox.start(config)) as sandbox:
        findings = sandbox.check()
        measurement = "" if findings else sandbox.measurement
        limit = sandbox.memory_limit
    if not findings:
        name = _ISOLATIONS[config.adapter] + (f" with {config.runtime}" if config.runtime else "")
        yield Finding(
            "isolation",
            Level.OK,
            f"{name} isolates a process here; memory is limited by {limit}; "
            f"the workers measure {measurement}",
        )
    for finding in findings:
        yield Finding(
            "isolation", Level.MISSING, f"{finding.message} [{finding.code}]", finding.remedy
        )


def _clock(now: datetime) -> Iterator[Finding]:
    shown = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    if now < _RELEASED:
        yield Finding(
            "clock",
            Level.MISSING,
            f"The clock shows {shown}, which is in the past.",
            "Set the clock: timedatectl set-ntp true",
        )
    else:
        yield Finding("clock", Level.OK, shown)
