"""UNION ALL of protected rows below the last aggregate, proven arm by arm.

What filters, projections and joins do to rows, they do to each arm's rows alone. So a plan with a
union below its last aggregate yields, for each cell and unit, what the plans with one of the arms
in place of the union yield, added up: each of these is proven as any other plan is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.facts import UnprovenError
from luoshu.sandbox.guard.plan import Operator
from luoshu.sandbox.guard.public import is_public
from luoshu.sandbox.schema import TableSchema

MAX_ARMS = 16


def arms_of(root: Operator, tables: Sequence[TableSchema]) -> list[Operator]:
    """The plan once for each arm; itself if there is no union below its last aggregate.

    A union anywhere else stays where it is.

    Raises:
        UnprovenError: There are too many.
    """
    match root:
        case plan.Projection() | plan.Cte():
            return [replace(root, child=child) for child in arms_of(root.child, tables)]
        case plan.GroupBy():
            return [replace(root, child=child) for child in _below(root.child, tables)]
    return [root]


def _below(operator: Operator, tables: Sequence[TableSchema]) -> list[Operator]:
    found: list[Operator]
    match operator:
        case plan.Projection() | plan.Filter() | plan.Cte():
            found = [replace(operator, child=child) for child in _below(operator.child, tables)]
        case plan.Join(kind="INNER"):
            pairs = itertools.product(_below(operator.left, tables), _below(operator.right, tables))
            found = [replace(operator, left=left, right=right) for left, right in pairs]
        case plan.Join():
            found = [replace(operator, left=left) for left in _below(operator.left, tables)]
        # Public rows meet others as a whole: what is unique in them is so in all arms together.
        case plan.SetOperation(kind="UNION", is_all=True) if not is_public(operator, tables):
            found = [arm for child in operator.children for arm in _below(child, tables)]
        case _:
            return [operator]
    if len(found) > MAX_ARMS:
        raise UnprovenError("so many arms of UNION ALL")
    return found
