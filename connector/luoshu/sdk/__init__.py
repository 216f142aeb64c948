"""Luoshu for analysts, holders and operators: `from luoshu.sdk import connect`.

Synchronous calls on the user's own node. What comes back was verified: catalog
entries and contracts against credentials, results against receipts, all of it
against the one authority key that the user's profile pins.

Here live the user-facing objects and their checks. `luoshu.sdk.rpc` alone
speaks gRPC. Nothing of the node (`luoshu.connector`) is imported. Names are
loaded when they are first used, so that importing this package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luoshu.sdk.computation import Computation, Phase
    from luoshu.sdk.contract import Contract
    from luoshu.sdk.errors import (
        ComputationCancelledError,
        ContractStateError,
        CredentialError,
        DeadlineError,
        DeniedError,
        ExhaustedError,
        FailedError,
        GuardRefusedError,
        InvalidRequestError,
        LuoshuError,
        MissingDependencyError,
        NotFoundError,
        PolicyDeniedError,
        ProfileError,
        StaleError,
        UnavailableError,
        VerificationError,
    )
    from luoshu.sdk.explanation import Explanation
    from luoshu.sdk.product import Product
    from luoshu.sdk.profile import Profile, load_profile
    from luoshu.sdk.receipts import VerifiedReceipt, load_trust, verify_receipt_file
    from luoshu.sdk.result import Result
    from luoshu.sdk.space import DataSpace, connect
    from luoshu.sdk.usage_log import UsageLog

__all__ = [
    "Computation",
    "ComputationCancelledError",
    "Contract",
    "ContractStateError",
    "CredentialError",
    "DataSpace",
    "DeadlineError",
    "DeniedError",
    "ExhaustedError",
    "Explanation",
    "FailedError",
    "GuardRefusedError",
    "InvalidRequestError",
    "LuoshuError",
    "MissingDependencyError",
    "NotFoundError",
    "Phase",
    "PolicyDeniedError",
    "Product",
    "Profile",
    "ProfileError",
    "Result",
    "StaleError",
    "UnavailableError",
    "UsageLog",
    "VerificationError",
    "VerifiedReceipt",
    "connect",
    "load_profile",
    "load_trust",
    "verify_receipt_file",
]

_MODULES = {
    "Computation": "computation",
    "Contract": "contract",
    "DataSpace": "space",
    "Explanation": "explanation",
    "Phase": "computation",
    "Product": "product",
    "Profile": "profile",
    "Result": "result",
    "UsageLog": "usage_log",
    "VerifiedReceipt": "receipts",
    "connect": "space",
    "load_profile": "profile",
    "load_trust": "receipts",
    "verify_receipt_file": "receipts",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
