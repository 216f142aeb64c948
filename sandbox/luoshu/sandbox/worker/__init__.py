"""Entry points of the isolated workers; each has a `main` that serves one job and ends.

They import the standard library, DuckDB's extension module (not `release`) and
the sandbox's own small modules, nothing else: no pyarrow, no pydantic, no part
of the connector. They are the trusted computing base.
"""
