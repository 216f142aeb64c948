"""The sandbox: an analyst's query runs against protected data, and only released results leave.

Here live the product file and its preparation, the query guard (`guard`), the
release rules (`release`), the isolation that single-use workers run in
(`isolation`), what runs inside it (`worker`), and the orchestration of one
computation (`run`).

Nothing here knows the node: no gRPC, no journal, no policy, no Arrow. What the
workers import (`worker`, `guard`, `release`, `engine`, `schema`, `wire`) is the
trusted computing base: the standard library and DuckDB's extension module only.
Import the modules by name: this file stays empty so that a worker starts fast.
"""
