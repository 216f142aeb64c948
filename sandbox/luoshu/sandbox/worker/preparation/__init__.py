"""What the preparation worker does, step by step: sources, columns, units, tables.

Messages that can reach the holder name tables, columns, types and counts, never a value.
"""
