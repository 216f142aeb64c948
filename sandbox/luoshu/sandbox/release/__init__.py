"""The release rules: which cells may come out.

Pure functions over cells, run in a process of their own that has no SQL engine
and never sees protected rows. Standard library only.
"""
