"""Functions that no query may call, over whatever rows."""

from __future__ import annotations

from typing import Final

from luoshu.sandbox.guard.refusals import Refusal, refuse, shown

OUTSIDE: Final = frozenset(
    """
    random setseed uuid gen_random_uuid uuidv4 uuidv7 now current_timestamp
    transaction_timestamp get_current_time today current_date current_setting getvariable getenv
    version current_database current_schema current_schemas current_query txid_current nextval
    currval sleep_ms error pg_typeof stats query query_table read_text read_blob glob write_log
    in_search_path current_user session_user user
    """.split()  # noqa: SIM905 - a list of words
)
"""They reach beyond their arguments: time, chance, settings, files, the catalog."""

GROWING: Final = frozenset(
    """
    repeat lpad rpad range generate_series format printf bar array_resize list_resize
    """.split()  # noqa: SIM905 - a list of words
)
"""Their result is as large as a number says; DuckDB computes those of constants while it binds."""


def check_function(name: str) -> None:
    """Refuses a function by its name.

    Raises:
        GuardRefusalError: `GUARD_FUNCTION`.
    """
    if name in OUTSIDE:
        raise refuse(
            Refusal.FUNCTION,
            f"The function {shown(name)} is not accepted: the same query has to give the same "
            "answer.",
        )
    if name in GROWING:
        raise refuse(
            Refusal.FUNCTION,
            f"The function {shown(name)} is not accepted: its result can be of any size. Shape the "
            "result yourself.",
        )
