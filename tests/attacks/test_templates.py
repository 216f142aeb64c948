"""Contracts of templates: no other query, no other value, and no value that becomes SQL."""

import duckdb
import pytest
from history_world import history_world

from luoshu.connector.errors import NodeError
from luoshu.contracts.templates import QueryTemplate, TemplateCall
from luoshu.sandbox.schema import SchemaError
from luoshu.sandbox.templates import BoundParameter, bind_parameters

RANGE = QueryTemplate.from_payload(
    {
        "name": "range",
        "sql": "$first-$last",
        "parameters": {
            "first": {"type": "integer", "values": [1, 101]},
            "last": {"type": "integer", "range": [20, 200]},
        },
    }
)
HOSTILE = (
    *("'", "''", "\\", "\\'", '"', "$x", "$$", "--", "/*", "*/", ";", "\n", "?"),
    "' OR '1'='1",
    "'); ATTACH 'x' AS y; --",
    "') UNION ALL SELECT * FROM other --",
    "E'\\x27'",
    "ʼ＇’",
)


@pytest.fixture
async def world(tmp_path):
    async with history_world(tmp_path) as world:
        await world.offer_with(templates=(RANGE,))
        yield world


def refused(reason):
    return pytest.raises(NodeError, check=lambda error: error.reason == reason)


async def call(world, state, name="range", **values):
    asked = world.ask(state, None, template=TemplateCall.of(name, values))
    return (await world.outcome(asked))[1]


async def test_template_is_computed_with_its_values(world):
    state = await world.contract(templates=(RANGE,))
    assert await call(world, state, first=1, last=40) == [{"n": 40}]
    assert await world.uses(state) == 1


async def test_free_sql_is_refused_and_costs_nothing(world):
    state = await world.contract(templates=(RANGE,))
    with refused("TEMPLATE_REQUIRED") as caught:
        await world.counted("1-40", state)
    assert "range" in str(caught.value)
    (entry,) = world.log()
    assert (entry["allow"], entry["reason"]) == (False, "TEMPLATE_REQUIRED")
    assert await world.uses(state) == 0


async def test_templates_can_not_be_left_out_of_what_is_asked(world):
    """The offer's stand in the counter-offer; nothing is agreed to without them."""
    state = await world.contract()
    assert state.agreement is None
    assert state.terms.templates == (RANGE,)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("range", {"first": 2, "last": 40}),
        ("range", {"first": 1, "last": 19}),
        ("range", {"first": 1, "last": 201}),
        ("range", {"first": 1}),
        ("range", {"first": 1, "last": 40, "more": 1}),
        ("range", {"first": "1", "last": 40}),
        ("range", {"first": True, "last": 40}),
        ("range", {"first": 1, "last": "40 OR TRUE"}),
        ("other", {}),
    ],
)
async def test_what_is_not_listed_is_refused(world, name, values):
    state = await world.contract(templates=(RANGE,))
    with refused("TEMPLATE_DENIED") as caught:
        await call(world, state, name, **values)
    assert "OR TRUE" not in str(caught.value)
    assert await world.uses(state) == 0


async def test_template_under_a_contract_without_any_is_refused(tmp_path):
    async with history_world(tmp_path) as world:
        state = await world.contract()
        with refused("TEMPLATE_DENIED"):
            await call(world, state, first=1, last=40)


# Binding


def bound(sql, **values):
    connection = duckdb.connect()
    parameters = [BoundParameter(name, kind, text) for name, (kind, text) in values.items()]
    return bind_parameters(connection, sql, parameters)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_one_literal(text):
    """Run by an engine, the template returns the text itself, whatever stands around it."""
    connection = duckdb.connect()
    connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    for template in (
        "SELECT $v FROM t",
        "SELECT $v || '' FROM t WHERE $v = $v AND '$v' <> '' AND \"a\" = 1",
        "WITH c AS (SELECT $v AS x) SELECT x FROM c",
        "SELECT CASE WHEN a IN (1) THEN $v END FROM t -- $v",
    ):
        sql = bound(template, v=("text", text))
        assert len(connection.extract_statements(sql)) == 1
        assert connection.execute(sql).fetchall() == [(text,)]
    tree = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()[0]
    assert '"PARAMETER"' not in tree


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("integer", "-5", "-5"),
        ("decimal", "-1.50", "-1.50"),
        ("decimal", "7", "7"),
        ("boolean", "false", "False"),
        ("date", "2020-02-29", "2020-02-29"),
        ("text", "5", "5"),
    ],
)
def test_values_keep_their_type(kind, text, expected):
    connection = duckdb.connect()
    ((value, negated),) = connection.execute(
        bound("SELECT $v, 1 - $n", v=(kind, text), n=("integer", "-3"))
    ).fetchall()
    assert str(value) == expected
    assert negated == 4


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("integer", "1; DROP TABLE t"),
        ("integer", "1\n"),
        ("integer", "１"),
        ("decimal", "1e400"),
        ("decimal", "1.5 OR TRUE"),
        ("boolean", "true OR TRUE"),
        ("date", "2020-02-29' OR '1'='1"),
        ("sql", "SELECT 1"),
    ],
)
def test_numbers_that_are_none_never_reach_the_tree(kind, text):
    with pytest.raises(SchemaError):
        BoundParameter("v", kind, text)


@pytest.mark.parametrize(
    "sql",
    ["SELECT $v; SELECT 1", "SELECT $v FROM", "COPY t TO '/tmp/x'", "DROP TABLE t", ""],
)
def test_what_is_no_single_select_is_left_for_the_guard(sql):
    assert bound(sql, v=("integer", "1")) == sql


def test_parameter_that_is_not_declared_is_left_for_the_guard():
    assert "$other" in bound("SELECT $v, $other FROM t", v=("integer", "1"))
