"""What a worker sees of the host beside its job: found once, measured, laid out.

Inside, `/python` holds the interpreter and its standard library, `/app` the
workers' code and DuckDB's extension module, `/lib` the shared libraries flat.
Workers that compute on columns also see the parts of NumPy that they load, and the one that
adds noise those of OpenDP.
Nothing else of site-packages, and nothing of /usr, /etc, /proc, /sys or /dev is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from luoshu.sandbox.errors import SandboxUnavailableError
from luoshu.sandbox.isolation.launcher_client import linker_environment
from luoshu.sandbox.isolation.port import Mount

_PROBE_SECONDS = 60
_LIBRARY_ALIASES = ("/lib64", "/usr/lib", "/usr/lib64")
FIND_CODE = "import sys; sys.path.append('/app'); "
_BOOT = FIND_CODE + "from luoshu.sandbox.worker.{} import main; main()"
_ZYGOTE = FIND_CODE + "from luoshu.sandbox.worker.zygote import main; main({!r})"
_TRIAL = FIND_CODE + "from luoshu.sandbox.worker.zygote import try_once; try_once()"
CODE_PARTS = (
    "guard",
    "release",
    "worker",
    "__init__.py",
    "arrays.py",
    "contributions.py",
    "engine.py",
    "errors.py",
    "export.py",
    "schema.py",
    "spawner.py",
    "templates.py",
    "wire.py",
)
_COMPUTING = frozenset({"stage1", "release", "release_dp"})
_NOISY = "release_dp"
_HIDDEN = ("site-packages", "dist-packages", "test", "ensurepip", "idlelib", "lib2to3")
_BYTECODE = "__pycache__"
_HASH_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Runtime:
    """The host's part of a worker's root.

    Attributes:
        mounts: Read-only, in the order to mount them.
        arrays: The same, of NumPy, for the workers that use it.
        noise: The same, of OpenDP and what it imports, for the worker that adds noise.
        masked: Directories inside the mounts to hide under an empty one.
        aliases: Symbolic links, (name, target).
        interpreter: Path of Python inside.
        engine: Version of DuckDB.
    """

    mounts: tuple[Mount, ...]
    arrays: tuple[Mount, ...]
    noise: tuple[Mount, ...]
    masked: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...]
    interpreter: str
    engine: str

    @classmethod
    def find(cls) -> Self:
        """Probes this interpreter and its libraries, in a process of its own (about 0.2 s).

        Raises:
            SandboxUnavailableError: The probe failed; says how.
        """
        probe = subprocess.run(
            [sys.executable, "-I", "-m", "luoshu.sandbox.isolation.probe"],
            capture_output=True,
            check=False,
            timeout=_PROBE_SECONDS,
            env=linker_environment(),
        )
        if probe.returncode:
            reason = probe.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise SandboxUnavailableError(
                f"The workers' code doesn't run on this machine: {reason}. Reinstall luoshu into a "
                "fresh virtual environment."
            )
        return cls._lay_out(json.loads(probe.stdout))

    @classmethod
    def _lay_out(cls, found: dict[str, Any]) -> Self:
        python = f"python{found['version']}"
        library = f"/python/{found['platlibdir']}/{python}"
        stdlib, code, extension = (Path(found[key]) for key in ("stdlib", "code", "extension"))
        libraries: dict[str, str] = found["libraries"]
        loader = found["loader"]
        mounts = [
            Mount(Path(found["executable"]), f"/python/bin/{python}"),
            Mount(stdlib, library),
            Mount(extension, f"/app/{extension.name}"),
            *(Mount(code / part, f"/app/luoshu/sandbox/{part}") for part in CODE_PARTS),
            *(Mount(Path(path), f"/lib/{name}") for name, path in sorted(libraries.items())),
        ]
        known = {"/lib", *_LIBRARY_ALIASES}
        if str(Path(loader).parent) not in known:  # the executable names its loader by full path
            mounts.append(Mount(Path(loader).resolve(), loader))
        arrays = _package("numpy", found["numpy"], found["numpy_parts"])
        if found["numpy_libraries"]:
            arrays.append(Mount(Path(found["numpy_libraries"]), "/app/numpy.libs"))
        return cls(
            mounts=tuple(mounts),
            arrays=tuple(arrays),
            noise=tuple(
                mount
                for package, (root, parts) in found["noise"].items()
                for mount in _package(package, root, parts)
            ),
            masked=tuple(f"{library}/{name}" for name in _HIDDEN if (stdlib / name).is_dir()),
            aliases=tuple((name, "/lib") for name in _LIBRARY_ALIASES),
            interpreter=f"/python/bin/{python}",
            engine=found["engine"],
        )

    def mounts_of(self, entry: str) -> tuple[Mount, ...]:
        """What a worker of an entry point sees."""
        arrays = self.arrays if entry in _COMPUTING else ()
        noise = self.noise if entry == _NOISY else ()
        return (*self.mounts, *arrays, *noise)

    def command(self, entry: str) -> list[str]:
        """The argument vector inside that runs a worker's entry point."""
        return self.code_command(_BOOT.format(entry))

    def zygote_command(self, entry: str) -> list[str]:
        """The same of a zygote that forks such workers."""
        return self.code_command(_ZYGOTE.format(entry))

    def trial_command(self) -> list[str]:
        """The same of a process that closes the wall around a fork once, and ends well."""
        return self.code_command(_TRIAL)

    def code_command(self, code: str) -> list[str]:
        """The same of any Python code."""
        return python_command(self.interpreter, code)

    def measure(self) -> str:
        """Hashes every file that a worker can see: `sha256:<hex>` over paths and contents.

        Compiled bytecode is left out: it is made from the sources, at any time.
        """
        total = hashlib.sha256()
        for inside, path in sorted(self.files()):
            content = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_HASH_CHUNK):
                    content.update(chunk)
            total.update(f"{content.hexdigest()}  {inside}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def files(self) -> Iterator[tuple[str, Path]]:
        """Every file that a worker can see, bytecode apart: its path inside, and where it is."""
        for mount in (*self.mounts, *self.arrays, *self.noise):
            if mount.source.name == _BYTECODE:
                continue
            if mount.source.is_file():
                yield mount.target, mount.source
                continue
            for directory, children, files in os.walk(mount.source):
                place = Path(directory)
                inside = f"{mount.target}/{place.relative_to(mount.source)}".removesuffix("/.")
                children[:] = [
                    child
                    for child in children
                    if child != _BYTECODE and f"{inside}/{child}" not in self.masked
                ]
                for name in files:
                    if (place / name).is_file():
                        yield f"{inside}/{name}", place / name


def python_command(interpreter: str, code: str) -> list[str]:
    """The argument vector that runs Python code, with nothing but its standard library."""
    # -I: no environment, no user site; -S: no site module, so no .pth and no sitecustomize.
    return [interpreter, "-I", "-S", "-B", "-c", code]


def _package(package: str, root: str, parts: list[str]) -> list[Mount]:
    """Mounts of those parts of a package that are loaded, with their bytecode."""
    directory = Path(root)
    mounts = [Mount(directory / part, f"/app/{package}/{part}") for part in parts]
    if (directory / _BYTECODE).is_dir():
        mounts.append(Mount(directory / _BYTECODE, f"/app/{package}/{_BYTECODE}"))
    return mounts
