"""The journal: the one file that a node's log is, and what is derived from it for others.

Here live the append-only file with its fsync and torn-tail rules, the Merkle tree over it and the
published tiles. The ledger (``connector.ledger``) is its only user for writing; nothing here knows
what an entry means.
"""
