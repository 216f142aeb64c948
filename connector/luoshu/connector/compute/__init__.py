"""Computations: decided, run in the sandbox, released, and proved.

The holder's side (`ComputeService`) and the analyst's side (`ComputeRelay`)
live here, with the table that projects the log's decisions and outcomes. No
grpc, no SQL of analysts (the sandbox has that), no rules (policies and the
sandbox's release stage have those).
"""
