"""The wheel, as a user installs it: everything inside, nothing beside the name `luoshu`."""

import hashlib
import json
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("contracts", "policies", "sandbox", "connector", "proto/gen", "examples")

# Runs inside the new environment: imports what it is told to, reads every other file through
# importlib.resources, and prints where the modules came from and what the files hold.
PROBE = """
import hashlib, importlib, importlib.resources, json, sys
wanted = json.load(sys.stdin)
origins = {name: importlib.import_module(name).__file__ for name in wanted["modules"]}
digests = {}
for package, path in wanted["data"]:
    content = importlib.resources.files(package).joinpath(path).read_bytes()
    digests[f"{package}/{path}"] = hashlib.sha256(content).hexdigest()
json.dump({"origins": origins, "digests": digests}, sys.stdout)
"""


def run(*command: str | Path, stdin: str | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist)
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def interpreter(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's Python: the wheel installed, the other packages borrowed.

    A path added by a .pth file is not searched for further .pth files, so the editable
    install of this repository stays invisible there.
    """
    home = tmp_path_factory.mktemp("env")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--no-deps", "--no-index", wheel),
    )
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def source_files() -> Iterator[tuple[Path, Path]]:
    """Every file that must ship: where it is, and its path below `luoshu/`."""
    for root in SOURCE_ROOTS:
        portion = ROOT / root / "luoshu"
        for path in sorted(portion.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path, path.relative_to(portion)


def is_importable(path: Path) -> bool:
    # Alembic loads its environment and its revisions by path, inside its own context.
    return path.suffix == ".py" and "migrations" not in path.parts


def test_wheel_installs_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {"luoshu", wheel.name.split("-py3")[0] + ".dist-info"}
    assert "luoshu/__init__.py" not in names
    assert {"licenses/LICENSE", "licenses/NOTICE"} <= {
        name.split(".dist-info/")[1] for name in names if ".dist-info/" in name
    }


def test_wheel_holds_every_source_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("luoshu/")}
    assert shipped == {f"luoshu/{below.as_posix()}" for _, below in source_files()}


def test_every_module_imports_and_every_data_file_loads(interpreter: Path) -> None:
    modules, data, expected = [], [], {}
    for path, below in source_files():
        if is_importable(below):
            parts = ["luoshu", *below.with_suffix("").parts]
            modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        elif path.suffix != ".py":
            package, inside = f"luoshu.{below.parts[0]}", Path(*below.parts[1:]).as_posix()
            data.append((package, inside))
            expected[f"{package}/{inside}"] = hashlib.sha256(path.read_bytes()).hexdigest()

    wanted = json.dumps({"modules": modules, "data": data})
    found = json.loads(run(interpreter, "-I", "-c", PROBE, stdin=wanted))

    assert found["digests"] == expected
    home = str(interpreter.parents[1])
    strays = {name: origin for name, origin in found["origins"].items() if home not in origin}
    assert not strays


def test_console_script_starts(interpreter: Path) -> None:
    assert "Usage" in run(interpreter.parent / "luoshu", "--help")
