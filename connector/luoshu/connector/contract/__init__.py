"""Contracts of this node: negotiated, governed and metered as signed events.

``provider`` sequences the events of contracts about this node's products, ``consumer``
makes contracts about others', ``book`` is what computations ask; ``service`` is what this
node's users meet. The rules of events are `luoshu.contracts.contract`'s: here live storage,
delivery, automatic steps and the clock. No grpc: peers are met through the port
``ContractPeer``, and ``rpc`` translates.
"""
