"""Finds what of this host a worker needs: `python -I -m luoshu.sandbox.isolation.probe`.

Imports what the workers import, runs a query, and prints as JSON where the
interpreter, its standard library, the code, NumPy, OpenDP and the shared libraries are. The
libraries are what the dynamic linker really loaded (dl_iterate_phdr(3)), so
neither the layout of the distribution nor `ldd` matters. Runs on the host,
once per node start, without any data.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import sys
import sysconfig
from pathlib import Path

WORKERS = ("stage1", "release", "stage2", "prepare", "zygote")
NOISY_WORKER = "release_dp"
NOISE_PACKAGES = ("opendp", "deprecated", "wrapt")


class _Info(ctypes.Structure):
    _fields_ = [("addr", ctypes.c_size_t), ("name", ctypes.c_char_p)]


def _loaded_libraries() -> list[str]:
    names: list[str] = []

    def note(info: object, _size: int, _data: object) -> int:
        name = info.contents.name  # type: ignore[attr-defined]  # ctypes pointer
        if name and os.path.isabs(name):  # noqa: PTH117 - bytes; the executable and vDSO have none
            names.append(os.fsdecode(name))
        return 0

    callback = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(_Info), ctypes.c_size_t, ctypes.c_void_p
    )(note)
    ctypes.CDLL(None).dl_iterate_phdr(callback, None)
    return names


def _package(package: str) -> tuple[Path, list[str]]:
    """A package's directory, and which of its files and sub-packages the workers load."""
    root = Path(importlib.import_module(package).__file__ or "").resolve().parent
    parts = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.split(".")[0] == package and file:
            parts.add(Path(file).resolve().relative_to(root).parts[0])
    return root, sorted(parts)


def _noise() -> dict[str, tuple[str, list[str]]]:
    """Like `_package`, of what adds noise; OpenDP finds its library beside its modules."""
    importlib.import_module(f"luoshu.sandbox.worker.{NOISY_WORKER}")
    found = {package: _package(package) for package in NOISE_PACKAGES}
    found["opendp"][1].append("lib")
    # It asks for its own version.
    version = importlib.metadata.distribution("opendp")
    metadata = next(file for file in version.files or () if file.name == "METADATA")
    found[metadata.parent.name] = (Path(str(metadata.locate())).resolve().parent, ["METADATA"])
    return {package: (str(root), parts) for package, (root, parts) in found.items()}


def find() -> dict[str, object]:
    """Returns the host paths that a worker needs."""
    engine = importlib.import_module("luoshu.sandbox.engine")
    for worker in WORKERS:
        importlib.import_module(f"luoshu.sandbox.worker.{worker}")
    engine.warm_up()
    importlib.import_module("numpy.ma")  # `np.unique` loads it when it is first called
    numpy, parts = _package("numpy")
    noise = _noise()
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    extension = Path(importlib.import_module("_duckdb").__file__ or "").resolve()
    loaded = _loaded_libraries()
    bundled = numpy.with_name("numpy.libs")  # found by a path relative to NumPy's own modules
    elsewhere = (stdlib, numpy, bundled, *(Path(root) for root, _ in noise.values()))
    libraries = {
        Path(name).name: str(Path(name).resolve())
        for name in loaded
        if not any(Path(name).resolve().is_relative_to(p) for p in elsewhere)
        and Path(name).resolve() != extension
    }
    return {
        "executable": str(Path(getattr(sys, "_base_executable", sys.executable)).resolve()),
        "version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "platlibdir": sys.platlibdir,
        "stdlib": str(stdlib),
        "extension": str(extension),
        "engine": engine.VERSION,
        "numpy": str(numpy),
        "numpy_parts": parts,
        "noise": noise,
        "numpy_libraries": str(bundled) if bundled.is_dir() else "",
        "code": str(Path(__file__).resolve().parent.parent),
        "libraries": libraries,
        "loader": next(name for name in loaded if Path(name).name.startswith("ld-")),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(find()))
