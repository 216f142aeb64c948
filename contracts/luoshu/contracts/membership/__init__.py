"""Members and users of a space, and the documents that say so.

Here live the trust anchor, enrolment requests, membership and user credentials and
the status list, each with its verification. Files, sockets, certificate issuing
and the directory of known members are the connector's.
"""

from luoshu.contracts.membership.credential import (
    Endpoints,
    MembershipCredential,
    Role,
    verify_credential,
)
from luoshu.contracts.membership.enrolment import EnrolmentRequest, verify_enrolment_request
from luoshu.contracts.membership.space import SpaceTrust
from luoshu.contracts.membership.status import (
    Revocation,
    RevocationReason,
    StatusList,
    verify_status_list,
)
from luoshu.contracts.membership.user import (
    UserCredential,
    UserRole,
    open_user_credential,
    verify_user_credential,
)

__all__ = [
    "Endpoints",
    "EnrolmentRequest",
    "MembershipCredential",
    "Revocation",
    "RevocationReason",
    "Role",
    "SpaceTrust",
    "StatusList",
    "UserCredential",
    "UserRole",
    "open_user_credential",
    "verify_credential",
    "verify_enrolment_request",
    "verify_status_list",
    "verify_user_credential",
]
