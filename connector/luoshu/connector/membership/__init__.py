"""Who belongs to the space: certificates, credentials, users, the status list.

Here live the space's certificate authority and approval (`pki`, `space`), a node's own
files and enrolment (`node_files`, `users`), what a node knows of the other members
(`directory`, `status`) and the logic behind the membership RPCs (`service`). No gRPC, no
protobuf. The authority's key is read by `space` only, which no serving process imports.
"""
