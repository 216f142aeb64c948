"""What of SQL is accepted, and right, and what is refused, naming the accepted way.

A row is one form of SQL. Accepted ones are answered as plain DuckDB answers them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clinic import Clinic, assert_same_answer, open_clinic

from luoshu.sandbox import engine
from luoshu.sandbox.errors import GuardRefusalError

_VISITS = "(SELECT count(*) FROM visit v WHERE v.pid = p.pid)"
_OF_KIND = "(SELECT pid FROM visit WHERE kind = 'in')"
_KINDS = "(SELECT kind, count(*) AS n FROM visit GROUP BY kind)"

ACCEPTED = {
    # Scalar subqueries of the same unit.
    "count": f"SELECT count(*) FROM patient p WHERE {_VISITS} > 2",
    "count by key": f"SELECT p.sex, count(*) FROM patient p WHERE {_VISITS} >= 1 GROUP BY p.sex",
    "no rows count 0": f"SELECT count(*) FROM patient p WHERE {_VISITS} = 0",
    "between": f"SELECT count(*) FROM patient p WHERE {_VISITS} BETWEEN 1 AND 3",
    "not between": f"SELECT count(*) FROM patient p WHERE {_VISITS} NOT BETWEEN 1 AND 3",
    "in a list": f"SELECT count(*) FROM patient p WHERE {_VISITS} IN (1, 2)",
    "constant first": f"SELECT count(*) FROM patient p WHERE 2 < {_VISITS}",
    "condition inside": (
        "SELECT count(*) FROM patient p WHERE (SELECT count(*) FROM visit v WHERE v.pid = p.pid "
        "AND v.kind = 'in' AND v.cost > 5) >= 1"
    ),
    "count of a column": (
        "SELECT count(*) FROM patient p WHERE (SELECT count(cost) FROM visit v "
        "WHERE v.pid = p.pid) > 2"
    ),
    "count distinct": (
        "SELECT count(*) FROM patient p WHERE (SELECT count(DISTINCT kind) FROM visit v "
        "WHERE v.pid = p.pid) > 1"
    ),
    "sum": "SELECT count(*) FROM patient p WHERE (SELECT sum(cost) FROM visit v "
    "WHERE v.pid = p.pid) > 10",
    "sum or zero": "SELECT count(*) FROM patient p WHERE coalesce((SELECT sum(cost) FROM visit v "
    "WHERE v.pid = p.pid), 0) < 5",
    "max of own": "SELECT count(*) FROM visit v WHERE cost = (SELECT max(cost) FROM visit w "
    "WHERE w.pid = v.pid)",
    "avg of own": "SELECT count(*) FROM visit v WHERE cost > (SELECT avg(cost) FROM visit w "
    "WHERE w.pid = v.pid)",
    "two compared": (
        f"SELECT count(*) FROM patient p WHERE {_VISITS} > (SELECT count(*) FROM item i "
        "WHERE i.unit_of_item = p.pid)"
    ),
    "by a key of the unit": "SELECT count(*) FROM visit v WHERE (SELECT count(*) FROM item i "
    "WHERE i.visit_id = v.visit_id) > 1",
    "nothing by a key of the unit": "SELECT count(*) FROM visit v WHERE (SELECT count(*) "
    "FROM item i WHERE i.visit_id = v.visit_id) = 0",
    "in OR": f"SELECT count(*) FROM patient p WHERE sex = 'f' OR {_VISITS} > 2",
    "added up": f"SELECT sum({_VISITS}), avg({_VISITS}) FROM patient p",
    "as a key": f"SELECT {_VISITS} AS n, count(*) FROM patient p GROUP BY n",
    # EXISTS and IN of the same unit.
    "in": f"SELECT count(*) FROM patient WHERE pid IN {_OF_KIND}",
    "not in": f"SELECT count(*) FROM patient WHERE pid NOT IN {_OF_KIND}",
    "not exists": "SELECT count(*) FROM patient p WHERE NOT EXISTS (SELECT 1 FROM visit v "
    "WHERE v.pid = p.pid)",
    "exists with a comparison": "SELECT count(*) FROM patient p WHERE EXISTS (SELECT 1 "
    "FROM visit v WHERE v.pid = p.pid AND v.cost > p.balance)",
    "not exists with a comparison": "SELECT count(*) FROM patient p WHERE NOT EXISTS (SELECT 1 "
    "FROM visit v WHERE v.pid = p.pid AND v.cost > p.balance)",
    "= any": f"SELECT count(*) FROM patient WHERE pid = ANY {_OF_KIND}",
    "<> all": f"SELECT count(*) FROM patient WHERE pid <> ALL {_OF_KIND}",
    "a column in": "SELECT count(*) FROM visit v WHERE code IN (SELECT drug FROM item i "
    "WHERE i.unit_of_item = v.pid)",
    "a column not in": "SELECT count(*) FROM visit v WHERE code NOT IN (SELECT drug FROM item i "
    "WHERE i.unit_of_item = v.pid)",
    "key in": "SELECT count(*) FROM visit WHERE visit_id IN (SELECT visit_id FROM item)",
    "unit and key in": (
        "SELECT count(*) FROM visit WHERE (pid, visit_id) IN (SELECT unit_of_item, visit_id "
        "FROM item)"
    ),
    "unit and column in": (
        "SELECT count(*) FROM visit WHERE (pid, code) IN (SELECT pid, level FROM patient)"
    ),
    "several in, in OR": (
        "SELECT count(*) FROM visit WHERE (pid, code) IN (SELECT pid, level FROM patient) "
        "OR kind = 'in'"
    ),
    "in, in OR": f"SELECT count(*) FROM patient WHERE sex = 'f' OR pid IN {_OF_KIND}",
    "not in, in OR": f"SELECT sum(age) FROM patient WHERE sex = 'f' OR pid NOT IN {_OF_KIND}",
    "two exists": "SELECT sum(age) FROM patient p WHERE EXISTS (SELECT 1 FROM visit v WHERE "
    "v.pid = p.pid AND v.kind = 'in') OR EXISTS (SELECT 1 FROM item i "
    "WHERE i.unit_of_item = p.pid)",
    "in a filter": f"SELECT count(*) FILTER (WHERE pid IN {_OF_KIND} OR sex = 'f') FROM patient",
    "in a case": f"SELECT sum(CASE WHEN pid IN {_OF_KIND} THEN age ELSE 0 END) FROM patient",
    "in below a union": (
        f"SELECT count(DISTINCT u) FROM (SELECT pid AS u, sex AS s FROM patient UNION ALL "
        f"SELECT pid, sex FROM patient WHERE smokes) WHERE s = 'f' OR u IN {_OF_KIND}"
    ),
    "semi join": "SELECT count(*) FROM patient SEMI JOIN visit USING (pid)",
    "anti join": "SELECT count(*) FROM patient p ANTI JOIN visit v ON p.pid = v.pid",
    # CASE in conditions.
    "case": "SELECT count(*) FROM patient WHERE CASE WHEN sex = 'f' THEN smokes ELSE age > 30 END",
    "compared case": "SELECT count(*) FROM patient WHERE CASE WHEN sex = 'f' THEN 'a' "
    "WHEN smokes THEN 'b' ELSE 'c' END IN ('a', 'b')",
    "negated case": "SELECT count(*) FROM patient WHERE NOT (CASE WHEN age > 40 THEN ward "
    "ELSE sex END = 'f')",
    "case without else": "SELECT count(*) FROM patient WHERE CASE WHEN sex = 'f' THEN 1 END = 1",
    # NULLs as zeros.
    "average of nulls as zeros": "SELECT ward, avg(coalesce(age, 0)), count(coalesce(age, 0)), "
    "sum(coalesce(balance, 0) * 2 + 1) FROM patient GROUP BY ward",
    "average of visits": f"SELECT p.ward, avg({_VISITS}) FROM patient p WHERE {_VISITS} > 0 "
    "GROUP BY p.ward",
    # Joins.
    "using the unit": "SELECT sex, count(*) FROM patient JOIN visit USING (pid) GROUP BY sex",
    "using a key": "SELECT kind, sum(amount) FROM visit JOIN item USING (visit_id) GROUP BY kind",
    "natural by unit": "SELECT ward, count(*) FROM patient NATURAL JOIN visit GROUP BY ward",
    "natural by key": "SELECT kind, sum(amount) FROM visit NATURAL JOIN item GROUP BY kind",
    "natural with public": "SELECT label, count(*) FROM visit NATURAL JOIN codes GROUP BY label",
    "right join": "SELECT p.sex, count(*) FROM patient p RIGHT JOIN visit v ON p.pid = v.pid "
    "GROUP BY p.sex",
    "full join of results": (
        f"SELECT a.kind, b.ward, a.n, b.n FROM {_KINDS} a FULL JOIN (SELECT ward, count(*) AS n "
        "FROM patient GROUP BY ward) b ON a.kind = b.ward WHERE a.n IS NULL OR a.n > 3"
    ),
    "full join of public": "SELECT c.label, d.maker FROM codes c FULL JOIN drugs d "
    "ON c.code = d.drug WHERE c.label IS NULL",
    "lateral": "SELECT p.sex, sum(l.cost) FROM patient p, LATERAL (SELECT cost FROM visit v "
    "WHERE v.pid = p.pid) l GROUP BY p.sex",
    "lateral count": "SELECT p.sex, sum(l.n), avg(l.n) FROM patient p, LATERAL (SELECT count(*) "
    "AS n FROM visit v WHERE v.pid = p.pid) l GROUP BY p.sex",
    "lateral sum": "SELECT p.sex, avg(l.s) FROM patient p JOIN LATERAL (SELECT sum(cost) AS s "
    "FROM visit v WHERE v.pid = p.pid) l ON true GROUP BY p.sex",
    "left lateral": "SELECT p.sex, count(*), count(l.cost) FROM patient p LEFT JOIN LATERAL "
    "(SELECT cost FROM visit v WHERE v.pid = p.pid) l ON true GROUP BY p.sex",
    "percentiles of results": (
        f"SELECT median(n), quantile_disc(n, 0.3), quantile_cont(n, 0.7) FROM {_KINDS}"
    ),
    "percentiles of public rows": "SELECT median(fee), quantile_disc(code, 0.9) FROM codes",
    # Names of groups and orders.
    "order by all": "SELECT kind, count(*) FROM visit GROUP BY ALL ORDER BY ALL",
    "order by all desc": "SELECT kind, code, count(*) FROM visit GROUP BY ALL ORDER BY ALL DESC",
    "by position": "SELECT kind, count(*) FROM visit GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 2",
    "by alias": "SELECT sex AS s, count(*) FROM patient GROUP BY s HAVING s = 'f'",
    # Windows over results.
    "qualify": "SELECT kind, count(*) AS n FROM visit GROUP BY kind QUALIFY rank() OVER "
    "(ORDER BY count(*) DESC) <= 2 ORDER BY kind",
    "named window": "SELECT kind, sum(count(*)) OVER w, row_number() OVER w FROM visit "
    "GROUP BY kind WINDOW w AS (ORDER BY kind)",
    "filter of a window": f"SELECT kind, sum(n) FILTER (WHERE n > 40) OVER (ORDER BY kind) "
    f"FROM {_KINDS}",
    "frame": f"SELECT kind, avg(n) OVER (ORDER BY kind ROWS BETWEEN 1 PRECEDING AND "
    f"1 FOLLOWING) FROM {_KINDS}",
    "groups frame": f"SELECT kind, sum(n) OVER (ORDER BY n GROUPS BETWEEN 1 PRECEDING AND "
    f"CURRENT ROW) FROM {_KINDS}",
    "share": f"SELECT kind, n * 1.0 / sum(n) OVER (), lag(n) OVER (ORDER BY kind) FROM {_KINDS}",
}

REFUSED = {
    "not in, several": (
        "SELECT count(*) FROM visit WHERE (pid, code) NOT IN (SELECT pid, level FROM patient)",
        "GUARD_EXPRESSION",
        "use NOT EXISTS",
    ),
    "> all": (
        "SELECT count(*) FROM visit v WHERE cost > ALL (SELECT cost FROM visit w "
        "WHERE w.pid = v.pid)",
        "GUARD_EXPRESSION",
        "MIN or MAX",
    ),
    "> any": (
        "SELECT count(*) FROM visit v WHERE cost > ANY (SELECT cost FROM visit w "
        "WHERE w.pid = v.pid)",
        "GUARD_EXPRESSION",
        "MIN or MAX",
    ),
    "median of an undeclared column": (
        "SELECT median(salary) FROM patient",
        "GUARD_COLUMN_USE",
        "`filter`",
    ),
    "median without bounds": (
        "SELECT median(balance) FROM patient",
        "GUARD_FUNCTION",
        "declared `bounds`",
    ),
    "median inside one unit": (
        "SELECT avg(m) FROM (SELECT pid, median(cost) AS m FROM visit GROUP BY pid)",
        "GUARD_FUNCTION",
        "AVG, MIN",
    ),
    "percentile at the end": (
        "SELECT quantile_disc(age, 1) FROM patient",
        "GUARD_FUNCTION",
        "between 0 and 1",
    ),
    "percentile beside OR": (
        "SELECT median(age) FROM patient WHERE sex = 'f' OR smokes",
        "GUARD_FUNCTION",
        "one branch at a time",
    ),
    "percentile of a union": (
        "SELECT median(x) FROM (SELECT age AS x FROM patient UNION ALL SELECT age FROM patient)",
        "GUARD_FUNCTION",
        "count rows by conditions",
    ),
    "several percentiles": (
        "SELECT quantile_disc(age, [0.1, 0.5]) FROM patient",
        "GUARD_FUNCTION",
        "quantile_disc",
    ),
    "about a percentile": (
        "SELECT approx_quantile(age, 0.5) FROM patient",
        "GUARD_FUNCTION",
        "approx_quantile",
    ),
    "arithmetic in a condition": (
        "SELECT count(*) FROM patient WHERE age + 1 > 30",
        "GUARD_FILTER",
        "compare a column itself",
    ),
    "scalar of several rows": (
        "SELECT count(*) FROM patient p WHERE (SELECT cost FROM visit v WHERE v.pid = p.pid) > 3",
        "GUARD_CLAUSE",
        "must be an aggregate",
    ),
    "other units": (
        "SELECT count(*) FROM patient p WHERE (SELECT count(*) FROM visit v "
        "WHERE v.code = p.level) > 3",
        "GUARD_CLAUSE",
        "correlate it by the unit",
    ),
    "undeclared condition inside": (
        "SELECT count(*) FROM patient p WHERE (SELECT count(*) FROM item i "
        "WHERE i.unit_of_item = p.pid AND i.price > 3) > 1",
        "GUARD_COLUMN_USE",
        "price",
    ),
    "full join": (
        "SELECT count(*) FROM patient p FULL JOIN visit v ON p.pid = v.pid",
        "GUARD_CLAUSE",
        "use LEFT JOIN",
    ),
    "asof join": (
        "SELECT count(*) FROM patient p ASOF JOIN visit v ON p.pid = v.pid AND p.born >= v.day",
        "GUARD_CLAUSE",
        "join by equality",
    ),
    "positional join": (
        "SELECT count(*) FROM patient POSITIONAL JOIN visit",
        "GUARD_CLAUSE",
        "join by equality",
    ),
    "limit in lateral": (
        "SELECT sum(l.cost) FROM patient p, LATERAL (SELECT cost FROM visit v "
        "WHERE v.pid = p.pid ORDER BY cost DESC LIMIT 1) l",
        "GUARD_CLAUSE",
        "aggregate first",
    ),
    "window over rows": (
        "SELECT count(*) FROM (SELECT row_number() OVER (PARTITION BY pid ORDER BY cost) AS r "
        "FROM visit) WHERE r = 1",
        "GUARD_CLAUSE",
        "aggregate first",
    ),
    "distinct on": (
        f"SELECT DISTINCT ON (n) kind, n FROM {_KINDS}",
        "GUARD_CLAUSE",
        "QUALIFY",
    ),
    "exclude": (
        f"SELECT sum(n) OVER (ORDER BY kind ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW "
        f"EXCLUDE CURRENT ROW) FROM {_KINDS}",
        "GUARD_CLAUSE",
        "ROWS BETWEEN",
    ),
    "range with an offset": (
        f"SELECT sum(n) OVER (ORDER BY n RANGE BETWEEN 5 PRECEDING AND CURRENT ROW) FROM {_KINDS}",
        "GUARD_CLAUSE",
        "use ROWS",
    ),
    "columns": ("SELECT COLUMNS(*) FROM patient", "GUARD_RAW_ROWS", "name the columns"),
    "order by columns": (
        f"SELECT kind, n FROM {_KINDS} ORDER BY COLUMNS('n')",
        "GUARD_RAW_ROWS",
        "name the columns",
    ),
    "unit as a scalar": (
        "SELECT count(*) FROM patient p WHERE (SELECT max(v.pid) FROM visit v "
        "WHERE v.pid = p.pid) = 7",
        "GUARD_UNPROVEN",
        "aggregate",
    ),
}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


@pytest.mark.parametrize("sql", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted_and_right(clinic: Clinic, sql: str) -> None:
    assert_same_answer(clinic, sql)
    assert clinic.plain(sql), "an answer without rows tests nothing"


@pytest.mark.parametrize(("sql", "code", "told"), REFUSED.values(), ids=REFUSED)
def test_refused_and_the_accepted_way_named(clinic: Clinic, sql: str, code: str, told: str) -> None:
    assert engine.bind(clinic.connection, sql)["error"] is False, "DuckDB itself takes it"
    with pytest.raises(GuardRefusalError, match=told) as refused:
        clinic.check(sql)
    assert refused.value.code == code
