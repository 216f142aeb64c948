"""What log entries of kind ``membership`` do to the tables.

An entry's data is one of::

    {"event": "credential", "credential": <envelope>}
    {"event": "status-list", "status_list": <envelope>, "by": <user id or null>}

Envelopes were verified before they were recorded; the tables keep them as signed.
"""

import sqlalchemy as sa

from luoshu.connector.membership.tables import membership_credential, membership_status
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.log.entry import Entry, EntryKind
from luoshu.contracts.membership import MembershipCredential, StatusList

CREDENTIAL_EVENT = "credential"
STATUS_EVENT = "status-list"


def credential_entry(envelope: Envelope) -> JsonObject:
    """The data of an entry that records a verified credential."""
    return {"event": CREDENTIAL_EVENT, "credential": envelope.to_json()}


def status_entry(envelope: Envelope, by: str | None) -> JsonObject:
    """The data of an entry that records a verified status list."""
    return {"event": STATUS_EVENT, "status_list": envelope.to_json(), "by": by}


class MembershipProjection:
    """Applies entries of kind ``membership``."""

    name = "membership"
    version = 1

    def apply(self, connection: sa.Connection, entry: Entry) -> None:
        """Applies one entry; others are not its business.

        Raises:
            ContractsError: The entry isn't as this version writes it.
        """
        if entry.body.kind != EntryKind.MEMBERSHIP:
            return
        data = entry.body.data
        if data.get("event") == CREDENTIAL_EVENT:
            envelope = Envelope.from_json(data.get("credential"))
            credential = MembershipCredential.from_payload(unverified_payload(envelope))
            table = membership_credential
            connection.execute(
                sa.delete(table).where(
                    table.c.participant_id == credential.participant_id,
                    table.c.serial == credential.serial,
                )
            )
            connection.execute(
                sa.insert(table).values(
                    participant_id=credential.participant_id,
                    serial=credential.serial,
                    envelope=envelope.to_bytes(),
                    log_index=entry.index,
                )
            )
        elif data.get("event") == STATUS_EVENT:
            envelope = Envelope.from_json(data.get("status_list"))
            status = StatusList.from_payload(unverified_payload(envelope))
            connection.execute(sa.delete(membership_status))
            connection.execute(
                sa.insert(membership_status).values(
                    id=1,
                    version=status.version,
                    envelope=envelope.to_bytes(),
                    log_index=entry.index,
                )
            )

    def clear(self, connection: sa.Connection) -> None:
        """Empties the tables."""
        connection.execute(sa.delete(membership_credential))
        connection.execute(sa.delete(membership_status))


def read_credentials(connection: sa.Connection) -> list[Envelope]:
    """All credentials on record."""
    rows = connection.execute(sa.select(membership_credential.c.envelope))
    return [Envelope.from_bytes(row.envelope) for row in rows]


def read_status(connection: sa.Connection) -> Envelope | None:
    """The newest status list on record, if any."""
    row = connection.execute(sa.select(membership_status.c.envelope)).one_or_none()
    return None if row is None else Envelope.from_bytes(row.envelope)
