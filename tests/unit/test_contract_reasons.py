"""Every reason that the ground floor raises is in its catalogue, and none is in vain."""

import ast
import re
from pathlib import Path

import luoshu.contracts.errors as errors_module
from luoshu.contracts.errors import REASONS, ContractsError

PACKAGE = Path(errors_module.__file__).parent


def _modules() -> list[ast.Module]:
    others = {"log", "release_notes.py"}
    paths = [p for p in PACKAGE.rglob("*.py") if not others & set(p.relative_to(PACKAGE).parts)]
    return [ast.parse(path.read_text("utf-8")) for path in paths]


def _raised() -> set[str]:
    """Texts given as ``reason=``, returned as a reason, or set as a class's default."""
    found = set()
    for module in _modules():
        for node in ast.walk(module):
            if isinstance(node, ast.keyword) and node.arg == "reason":
                values: list[ast.AST] = [node.value]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                values = [node.value] if node.value else []
            elif isinstance(node, ast.Return) and node.value:
                values = [node.value]
            else:
                continue
            for value in values:
                for part in ast.walk(value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        found.add(part.value)
    return {text for text in found if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", text)}


def test_reasons_raised_are_the_reasons_listed() -> None:
    # CREDENTIAL_REVOKED is for the connector, which holds status list and credential.
    assert _raised() - {"REASONS"} == REASONS


def test_each_error_has_a_reason_and_a_public_message() -> None:
    def descendants(kind: type[ContractsError]) -> set[type[ContractsError]]:
        return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))

    for kind in descendants(ContractsError):
        if kind.__module__ == errors_module.__name__:
            error = kind("what happened")
            assert error.reason in REASONS
            assert str(error) == error.message == "what happened"
            assert kind("x", reason="WRONG_SPACE").reason == "WRONG_SPACE"
