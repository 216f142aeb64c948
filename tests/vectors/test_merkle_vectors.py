"""The 518 Merkle proof cases of transparency-dev/merkle, good and bad."""

import base64
import json
import os
from pathlib import Path

import pytest

from luoshu.contracts.log.errors import MerkleError
from luoshu.contracts.log.merkle import (
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)

VECTORS = Path(os.environ.get("LUOSHU_VECTORS", "../shared/vectors")) / "merkle"
CASES = sorted(VECTORS.rglob("*.json"))

pytestmark = pytest.mark.skipif(not CASES, reason=f"no vectors in {VECTORS}; set LUOSHU_VECTORS")


def hashes(values):
    return [base64.b64decode(value) for value in values or []]


def check(family, case):
    proof = hashes(case["proof"])
    if family.endswith("inclusion"):
        leaf, root = hashes([case["leafHash"], case["root"]])
        if family == "inclusion":
            verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)
        else:
            verify_subtree_inclusion(
                leaf, case["leafIdx"], (case["start"], case["end"]), proof, root
            )
    else:
        root1, root2 = hashes([case["root1"], case["root2"]])
        if family == "consistency":
            verify_consistency(case["size1"], case["size2"], proof, root1, root2)
        else:
            verify_subtree_consistency(
                (case["start"], case["end"]), case["size"], proof, root1, root2
            )


def test_all_cases_are_there():
    families = [path.relative_to(VECTORS).parts[0] for path in CASES]
    assert len(CASES) == 518
    assert set(families) == {"inclusion", "consistency", "subtreeinclusion", "subtreeconsistency"}


@pytest.mark.parametrize("path", CASES, ids=lambda path: str(path.relative_to(VECTORS)))
def test_case(path):
    case = json.loads(path.read_text())
    family = path.relative_to(VECTORS).parts[0]
    if case["wantErr"]:
        with pytest.raises(MerkleError):
            check(family, case)
    else:
        check(family, case)
