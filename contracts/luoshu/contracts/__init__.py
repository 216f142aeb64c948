"""The ground floor: the vocabulary that both sides of a contract, and an auditor, share.

Here live canonical JSON, keys, signed envelopes, membership documents, catalog
entries, terms, requests, the negotiation and agreement machines, and the usage
log's formats with their verifiers. Everything is a pure function of its
arguments or a frozen value.

Nothing here may read a file, a socket, a clock or a source of randomness (key
generation apart), know a protobuf message, or import another part of Luoshu.
Import the modules by name: this file stays empty so that importing is cheap.
"""
