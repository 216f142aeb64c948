"""The usage log's formats: Merkle tree, notes, checkpoints, tiles, entries, receipts.

Pure, as all of the ground floor: nothing here reads a clock or draws randomness. The verifier
alone reads, through the small port in ``reader``, which is how it stays usable offline on a
directory, on a web server's copy, or on what a test made up. Writing a log is the connector's.
"""
