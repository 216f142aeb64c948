"""The shipped policies as files: Rego sources, the Wasm built from them, the manifest.

``rego/manifest.json`` names each file's digest, the OPA version that built the Wasm and its
entry point. A bundle loads only if every file is what the manifest says: a source that
doesn't belong to the Wasm would mislead whoever audits a decision. ``policies/build.py``
writes the manifest; CI rebuilds and compares byte for byte.
"""

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from luoshu.contracts.canonical import JsonObject, digest, parse_object
from luoshu.contracts.errors import CanonicalError
from luoshu.policies.engine import PolicyUnavailableError

MANIFEST_SCHEMA: Final = "luoshu/policy-manifest/v1"


@dataclass(frozen=True, slots=True)
class PolicyBundle:
    """One policy, checked against the manifest.

    Attributes:
        name: Such as ``use``.
        entry_point: Rego path of the decision, such as ``luoshu/use/decision``.
        wasm: The module's bytes.
        digest: ``sha256:…`` of them: the policy digest that decisions name.
        opa_version: The OPA that built it.
    """

    name: str
    entry_point: str
    wasm: bytes
    digest: str
    opa_version: str


def load_bundle(name: str, directory: Traversable | None = None) -> PolicyBundle:
    """Loads and checks one shipped policy.

    Args:
        name: The policy's name in the manifest.
        directory: Where the files are; the package's own ``rego/`` by default.

    Raises:
        PolicyUnavailableError: If anything is missing or differs from the manifest.
    """
    directory = directory or files("luoshu.policies").joinpath("rego")
    manifest = _manifest(directory)
    policies = manifest.get("policies")
    policy = policies.get(name) if isinstance(policies, dict) else None
    opa_version = manifest.get("opa_version")
    if (
        manifest.get("schema") != MANIFEST_SCHEMA
        or not isinstance(policy, dict)
        or not isinstance(opa_version, str)
    ):
        raise _broken(f"the manifest doesn't describe a policy {name!r}")
    entry_point, wasm_file = policy.get("entry_point"), policy.get("wasm")
    digests = policy.get("files")
    if (
        not isinstance(entry_point, str)
        or not isinstance(wasm_file, str)
        or not isinstance(digests, dict)
        or wasm_file not in digests
    ):
        raise _broken(f"the manifest's entry of {name!r} is incomplete")
    contents = {file: _read(directory, file) for file in digests}
    for file, content in contents.items():
        if digest(content) != digests[file]:
            raise _broken(f"{file} isn't the file that the manifest names")
    wasm = contents[wasm_file]
    return PolicyBundle(name, entry_point, wasm, digest(wasm), opa_version)


def _manifest(directory: Traversable) -> JsonObject:
    try:
        return parse_object(_read(directory, "manifest.json"))
    except CanonicalError as error:
        raise _broken("manifest.json is not valid JSON") from error


def _read(directory: Traversable, file: str) -> bytes:
    try:
        return directory.joinpath(file).read_bytes()
    except OSError as error:
        raise _broken(f"{file} can't be read") from error


def _broken(private: str) -> PolicyUnavailableError:
    return PolicyUnavailableError(
        "The shipped policy is not intact, so nothing is decided. Install luoshu again.",
        private=private,
    )
