"""Runnable scenarios with their data.

Each scenario is a sub-package: data with source and licence, product files,
and a `run_demo` that plays it on a whole space of real processes on loopback.
Nothing here may be imported by the node or by the SDK.
"""
