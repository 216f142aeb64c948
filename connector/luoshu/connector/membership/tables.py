"""SQL tables of what this node has learnt about members: a projection of the log."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, LargeBinary, String, Table

from luoshu.connector.store.metadata import METADATA

membership_credential = Table(
    "membership_credential",
    METADATA,
    Column("participant_id", String(100), primary_key=True),
    # Every serial is kept: what an old credential's keys signed stays verifiable.
    Column("serial", BigInteger, primary_key=True, autoincrement=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("log_index", BigInteger, nullable=False),
)

membership_status = Table(
    "membership_status",
    METADATA,
    Column("id", Integer, primary_key=True),
    # The newest version accepted: an older list is a roll-back, also after a restart.
    Column("version", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("log_index", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="single_row"),
)
