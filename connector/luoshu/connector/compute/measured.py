"""Whether the code that computes here is the code that a contract asks for."""

from __future__ import annotations

from luoshu.connector.compute.outcome import Refusal
from luoshu.contracts.attestation import Evidence, EvidenceKind, SoftwareMeasurement, Verifier
from luoshu.contracts.terms import Terms

_VERIFIERS: dict[EvidenceKind, Verifier] = {
    EvidenceKind.SOFTWARE_MEASUREMENT: SoftwareMeasurement()
}


def measurement_refusal(terms: Terms, measurement: str) -> Refusal | None:
    """Why the contract doesn't allow this code; None if it does.

    Args:
        terms: Of the contract.
        measurement: ``sha256:<hex>`` of everything that this node's workers can see.
    """
    if not terms.measurements:
        return None
    evidence = Evidence(EvidenceKind.SOFTWARE_MEASUREMENT, measurement.encode())
    verdict = _VERIFIERS[evidence.kind].judge(evidence)
    if verdict.measurement in terms.measurements:
        return None
    return Refusal(
        "MEASUREMENT_DENIED",
        f"The contract asks for other code than this node's, which measures {measurement}.",
        "measurements",
    )
