"""Decisions: whether one use of a data product is allowed by its contract.

Here live the policy engine port and its adapters, the step from contract terms to decision
input, and the shipped policies (``rego/``: sources, and the Wasm that the real OPA built from
them). Nothing here knows the sandbox, does network I/O or reads a clock: a decision is a
function of the policy and its input, so that anybody can replay it.
"""

from luoshu.policies.decision_input import DecisionInputError, Meters, Party, Product, build_input
from luoshu.policies.engine import (
    Decision,
    PoliciesError,
    PolicyEngine,
    PolicyMismatchError,
    PolicyUnavailableError,
    Reason,
    decision_record,
    replay,
)

__all__ = [
    "Decision",
    "DecisionInputError",
    "Meters",
    "Party",
    "PoliciesError",
    "PolicyEngine",
    "PolicyMismatchError",
    "PolicyUnavailableError",
    "Product",
    "Reason",
    "build_input",
    "decision_record",
    "load_default_engine",
    "replay",
]


def load_default_engine() -> PolicyEngine:
    """Loads the shipped use policy into the Wasm engine; takes about 0.3 s.

    Raises:
        PolicyUnavailableError: If a policy file is missing or isn't what the manifest names.
    """
    # wasmtime loads a native library of tens of MB: only those who decide pay for it.
    from luoshu.policies.bundle import load_bundle  # noqa: PLC0415
    from luoshu.policies.wasm import WasmPolicyEngine  # noqa: PLC0415

    return WasmPolicyEngine(load_bundle("use"))
