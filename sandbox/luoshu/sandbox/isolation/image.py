"""The root of a worker's image: what `runtime` lists, laid out as under bubblewrap.

It holds no shell, no package and no program but Python.

    python -I -m luoshu.sandbox.isolation.image root LIBRARIES CODE   # inside a base image
    python -I -m luoshu.sandbox.isolation.image code             # prints the digest of the code

An image is built with the digest of the code that went into it as a label; a node starts no
worker of an image with another digest than its own code has.
"""

from __future__ import annotations

import compileall
import hashlib
import shutil
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

from luoshu.sandbox.isolation.runtime import CODE_PARTS, Runtime

_LINKS = {
    "python/python": "bin/{}",
    "in": "/proc/self/fd",  # where a worker finds what it was handed; `namespaces.INPUTS`
}
_PLACES = ("door", "tmp", "proc", "sys", "dev", "etc", "source", "out", "units")
"""Mount points, for the root is read-only."""


def lay_out(root: Path, code: Path) -> None:
    """Copies all that workers see into directories, with compiled bytecode.

    Args:
        root: Made here; what is copied belongs to who runs this, and is for all to read.
        code: Made here; the same, of what changes most often, to be a layer of its own.
    """
    runtime = Runtime.find()
    for inside, path in runtime.files():
        target = root / inside.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    interpreter = Path(runtime.interpreter)
    (root / runtime.interpreter.lstrip("/")).chmod(0o755)
    for library in root.glob("lib/*"):
        library.chmod(0o755)  # the loader is a program too
    for name, target_name in runtime.aliases:
        link = root / name.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target_name)
    for name, target_name in _LINKS.items():
        (root / name).symlink_to(target_name.format(interpreter.name))
    for place in _PLACES:
        (root / place).mkdir()
    for part in ("app", "python"):
        # Not by time: the same files are to make the same image.
        compileall.compile_dir(
            root / part,
            quiet=2,
            stripdir=str(root),
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
    (code / "app").mkdir(parents=True)
    (root / "app" / "luoshu").rename(code / "app" / "luoshu")


def code_digest() -> str:
    """`sha256:<hex>` over the sources of the workers' code, as it is installed here."""
    code = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for part in CODE_PARTS:
        place = code / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{digest}  {path.relative_to(code)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def main() -> None:
    """Entry point."""
    match sys.argv[1:]:
        case ["root", libraries, code]:
            lay_out(Path(libraries), Path(code))
        case ["code"]:
            sys.stdout.write(code_digest() + "\n")
        case _:
            sys.exit("usage: root LIBRARIES CODE | code")


if __name__ == "__main__":
    main()
