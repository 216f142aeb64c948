"""Offers as a holder writes them, and as a node takes them.

An offer is either the full document (`terms` in ODRL form) or the short form::

    - id: research
      purposes: [medical-research]     # what the results may be for
      uses: 20                         # number of computations
      not_before: 2026-01-01           # whole days, or times
      not_after: 2026-12-31
      regions: [CN]
      min_units: 10                    # distinct units a released group needs
      jitter: 4                        # these four: what the product says unless given
      dominance: 0.85
      scope: participant
      debits: 16
      limits: {max_uses: 50, purposes: [teaching], latest_end: 2027-06-30, regions: [CN]}
      templates:                       # the only queries that may be asked; any SQL by default
        - name: by-year
          sql: SELECT count(*) FROM lung WHERE year = $year
          parameters: {year: {type: integer, range: [2000, 2025]}}
      measurements: ["sha256:…"]       # of the code under which alone may be computed
      answer: manual                   # or automatic, the default
      visible_to: ["*"]                # or participant ids; everyone by default

Of a product that is released with differential privacy::

    - id: noisy
      mode: dp
      epsilon: 0.5                     # what one computation costs; these four: what the
      delta: 1e-6                      # product says unless epsilon is given
      cells_per_unit: 1
      rows_per_cell: 3
      quota_epsilon: 5                 # what all of them may cost; only the budget of the
      quota_delta: 1e-5                # people in the data limits them otherwise

`min_units` is required except under `dp`, the rest of the terms is not bounded unless given.
`limits` say how far an automatic answer may go beyond the offer's own terms.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from luoshu.contracts.canonical import JsonObject, JsonValue, canonicalize
from luoshu.contracts.errors import ContractsError, DocumentError
from luoshu.contracts.fields import Fields
from luoshu.contracts.offer import EVERYONE, AnswerMode, Offer
from luoshu.contracts.release_terms import ReleaseMode
from luoshu.contracts.templates import MAX_TEMPLATES, QueryTemplate
from luoshu.contracts.terms import simple_terms
from luoshu.contracts.times import format_time
from luoshu.sdk.errors import InvalidRequestError
from luoshu.sdk.terms import RELEASE_KEYS, with_rules

_TERMS = {
    "purposes",
    "uses",
    "not_before",
    "not_after",
    "regions",
    "min_units",
    "templates",
    "measurements",
}
_TERMS |= {"mode", *RELEASE_KEYS}
_OPTIONAL = {"terms", "limits", "answer", "visible_to"} | _TERMS
_LIMITS = {"max_uses", "purposes", "latest_end", "regions"}
_DATE_LENGTH = len("2026-12-31")


def offers_document(offers: JsonValue) -> bytes:
    """What `PublishProduct` takes: canonical JSON `{"offers": [...]}`.

    Args:
        offers: A list of offers, or an object that holds it as `offers`.

    Raises:
        InvalidRequestError: Naming the offer and what is wrong with it.
    """
    if isinstance(offers, dict) and set(offers) == {"offers"}:
        offers = offers["offers"]
    if not isinstance(offers, list) or not offers:
        raise InvalidRequestError(
            "The offers must be a list of at least one offer.", next_step="See docs/contracts.md."
        )
    documents: list[JsonValue] = []
    for number, offer in enumerate(offers, start=1):
        try:
            documents.append(read_offer(offer).to_payload())
        except (ContractsError, ValueError) as error:
            raise InvalidRequestError(
                f"Offer {number}: {error}.", next_step="See docs/contracts.md."
            ) from error
    return canonicalize({"offers": documents})


def read_offer(value: JsonValue) -> Offer:
    """One offer in the full or the short form.

    Raises:
        DocumentError: Ill-formed.
        ValueError: A time that is none.
    """
    fields = Fields(value, "offer", {"id"}, _OPTIONAL)
    document: JsonObject = {
        "id": fields.raw("id"),
        "visible_to": _get(fields, "visible_to", [EVERYONE]),
        "limits": _limits(_get(fields, "limits", {})),
        "answer": _get(fields, "answer", AnswerMode.AUTOMATIC.value),
    }
    if "terms" in fields:
        both = sorted(name for name in _TERMS if name in fields)
        if both:
            raise DocumentError(f"offer: give terms, or {', '.join(both)}, not both")
        document["terms"] = fields.raw("terms")
    else:
        terms = simple_terms(
            purposes=_names(fields, "purposes"),
            uses=fields.integer("uses", minimum=1) if "uses" in fields else None,
            not_before=_moment(_get(fields, "not_before", None), end=False),
            not_after=_moment(_get(fields, "not_after", None), end=True),
            regions=_names(fields, "regions"),
            min_units=_min_units(fields),
            mode=_mode(fields),
            templates=_templates(fields),
            measurements=_names(fields, "measurements"),
        )
        rules = {name: fields.raw(name) for name in RELEASE_KEYS if name in fields}
        document["terms"] = replace(terms, release=with_rules(terms.release, rules)).to_payload()
    return Offer.from_payload(document)


def _limits(value: JsonValue) -> JsonObject:
    fields = Fields(value, "limits", set(), _LIMITS)
    latest_end = _moment(_get(fields, "latest_end", None), end=True)
    return {
        "max_uses": _get(fields, "max_uses", None),
        "purposes": _get(fields, "purposes", []),
        "latest_end": None if latest_end is None else format_time(latest_end),
        "regions": _get(fields, "regions", []),
    }


def _get(fields: Fields, name: str, default: JsonValue) -> JsonValue:
    return fields.raw(name) if name in fields else default


def _names(fields: Fields, name: str) -> tuple[str, ...]:
    return fields.strings(name, len) if name in fields else ()


def _mode(fields: Fields) -> ReleaseMode:
    return fields.choice("mode", ReleaseMode) if "mode" in fields else ReleaseMode.AGGREGATE


def _min_units(fields: Fields) -> int:
    if "min_units" not in fields and _mode(fields) is ReleaseMode.DP:
        return 1
    if "min_units" not in fields:
        raise DocumentError("offer lacks min_units, the distinct units that a group needs")
    return fields.integer("min_units", minimum=1)


def _templates(fields: Fields) -> tuple[QueryTemplate, ...]:
    if "templates" not in fields:
        return ()
    return fields.array(
        "templates",
        lambda value: QueryTemplate.from_payload(_with_parameters(value)),
        minimum=1,
        maximum=MAX_TEMPLATES,
    )


def _with_parameters(value: JsonValue) -> JsonValue:
    return {"parameters": {}, **value} if isinstance(value, dict) else value


def _moment(value: JsonValue, *, end: bool) -> dt.datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise DocumentError("a time must be text, as 2026-12-31 or 2026-12-31T18:00:00Z")
    moment = dt.datetime.fromisoformat(value)
    if len(value) == _DATE_LENGTH and end:
        moment = moment.replace(hour=23, minute=59, second=59)
    aware = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
    return aware.astimezone(dt.UTC)
