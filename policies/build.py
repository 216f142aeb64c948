"""Builds the shipped policies with the real OPA and writes their manifest.

    python policies/build.py            # rebuild use.wasm and manifest.json
    python policies/build.py --check    # rebuild elsewhere and compare, byte for byte

Before building, the sources must be formatted (``opa fmt``), strict (``opa check --strict``)
and pass their own tests with every line covered (``opa test``). OPA is looked for at
``.tools/bin/opa``, then on the path; the pinned version is installed with Go by

    GOBIN="$PWD/.tools/bin" go install github.com/open-policy-agent/opa@v1.22.2

The same OPA gives the same bytes, on any machine, as long as it is given relative file names:
it embeds them.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

OPA_VERSION: Final = "1.22.2"
ENTRY_POINTS: Final = {"use": "luoshu/use/decision"}

_ROOT: Final = Path(__file__).resolve().parent.parent
_REGO: Final = _ROOT / "policies" / "luoshu" / "policies" / "rego"


class BuildError(Exception):
    """The policies can't be built, or aren't what was built from them."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Builds the shipped policies with OPA.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--opa", type=Path, help="the OPA program to use")
    options = parser.parse_args(arguments)
    try:
        opa = find_opa(options.opa)
        run_checks(opa)
        built = build(opa)
        if options.check:
            compare(built)
        else:
            for name, content in built.items():
                (_REGO / name).write_bytes(content)
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    verb = "are what OPA builds" if options.check else "written"
    sys.stdout.write(f"{', '.join(sorted(built))}: {verb} (OPA {OPA_VERSION})\n")
    return 0


def find_opa(given: Path | None) -> Path:
    """Returns the OPA program of the pinned version.

    Raises:
        BuildError: If there is none, or it has another version.
    """
    on_path = shutil.which("opa")
    candidates = [given, _ROOT / ".tools" / "bin" / "opa", Path(on_path) if on_path else None]
    for candidate in candidates:
        if candidate is not None and candidate.is_file():
            opa = candidate.resolve()
            break
    else:
        raise BuildError(
            "OPA is missing. Install it: GOBIN=$PWD/.tools/bin go install "
            f"github.com/open-policy-agent/opa@v{OPA_VERSION}"
        )
    version = _run(opa, "version").decode().splitlines()[0].removeprefix("Version: ")
    if version != OPA_VERSION:
        raise BuildError(f"OPA {version} is here; the policies are built with {OPA_VERSION}.")
    return opa


def run_checks(opa: Path) -> None:
    """Checks format, strictness, tests and coverage of the sources.

    Raises:
        BuildError: If one of them fails.
    """
    unformatted = _run(opa, "fmt", "--list", ".").decode().split()
    if unformatted:
        raise BuildError(f"Not formatted: {', '.join(unformatted)}. Run `opa fmt -w` on them.")
    _run(opa, "check", "--strict", ".")
    _run(opa, "test", ".")
    coverage = json.loads(_run(opa, "test", ".", "--coverage"))
    for name, file in coverage["files"].items():
        if file.get("not_covered"):
            rows = ", ".join(str(part["start"]["row"]) for part in file["not_covered"])
            raise BuildError(f"No test covers {name} at row {rows}.")


def build(opa: Path) -> dict[str, bytes]:
    """Builds every policy; returns the generated files' contents by name."""
    built: dict[str, bytes] = {}
    policies = {}
    for name, entry_point in ENTRY_POINTS.items():
        with tempfile.TemporaryDirectory() as directory:
            bundle = Path(directory) / "bundle.tar.gz"
            source = f"{name}.rego"
            _run(opa, "build", "-t", "wasm", "-e", entry_point, "-o", str(bundle), source)
            with tarfile.open(bundle) as archive:
                member = archive.extractfile("/policy.wasm")
                if member is None:
                    raise BuildError("OPA built no policy.wasm.")
                built[f"{name}.wasm"] = member.read()
        files = {
            source: (_REGO / source).read_bytes(),
            f"{name}_test.rego": (_REGO / f"{name}_test.rego").read_bytes(),
            f"{name}.wasm": built[f"{name}.wasm"],
        }
        policies[name] = {
            "entry_point": entry_point,
            "wasm": f"{name}.wasm",
            "files": {
                file: f"sha256:{hashlib.sha256(content).hexdigest()}"
                for file, content in files.items()
            },
        }
    manifest = {
        "schema": "luoshu/policy-manifest/v1",
        "opa_version": OPA_VERSION,
        "policies": policies,
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    built["manifest.json"] = text.encode()
    return built


def compare(built: dict[str, bytes]) -> None:
    """Compares what was built with the committed files.

    Raises:
        BuildError: If a file differs or is missing.
    """
    for name, content in built.items():
        committed = _REGO / name
        if not committed.is_file() or committed.read_bytes() != content:
            raise BuildError(
                f"{name} isn't what OPA {OPA_VERSION} builds from the sources. "
                "Run `python policies/build.py` and commit the result."
            )


def _run(opa: Path, *arguments: str) -> bytes:
    # Relative names, so that no directory of this machine gets into the module.
    done = subprocess.run([opa, *arguments], cwd=_REGO, capture_output=True, check=False)  # noqa: S603
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise BuildError(f"`opa {' '.join(arguments)}` failed:\n{output}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
