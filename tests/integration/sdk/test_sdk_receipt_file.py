"""A receipt file once written stays readable, and verifies for ever.

`tests/golden/receipt-file.v1.json` holds one with the trust anchor and the result of its space,
as version 0.1 wrote it. It is never edited.
"""

import base64
import json
from pathlib import Path

from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.membership import SpaceTrust
from luoshu.sdk import verify_receipt_file
from luoshu.sdk.receipts import RECEIPT_FILE_SCHEMA

GOLDEN = Path(__file__).parents[2] / "golden" / "receipt-file.v1.json"


def test_the_golden_receipt_verifies(tmp_path):
    document = json.loads(GOLDEN.read_text("utf-8"))
    assert document["receipt_file"]["schema"] == RECEIPT_FILE_SCHEMA == "luoshu/receipt-file/v1"
    content = canonicalize(document["receipt_file"])
    (tmp_path / "receipt.json").write_bytes(content)
    trust = SpaceTrust.from_payload(document["trust"])
    result = base64.b64decode(document["result"])
    verified = verify_receipt_file(tmp_path / "receipt.json", trust, result=result)
    assert verified.summary() == document["summary"]
    assert verified.to_bytes() == content
