"""What must hold of the search index for any text."""

import random
from collections import Counter

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from luoshu.connector.catalog import tables
from luoshu.connector.catalog.expression import FACET_FIELDS, QueryTooLongError
from luoshu.connector.catalog.search import (
    IndexedTexts,
    add_to_index,
    index_terms,
    remove_from_index,
    search_index,
)
from luoshu.connector.store.engine import Store

HANZI = st.text(
    st.one_of(
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
        st.characters(min_codepoint=0x20000, max_codepoint=0x2A6DF),
        st.sampled_from("肺癌生存数据的"),
    ),
    min_size=2,
    max_size=12,
)
VIEWER = "urn:luoshu:demo:analyst"


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory):
    with Store.open(tmp_path_factory.mktemp("store") / "luoshu.db") as store:
        Index.store = store
        yield


class Index:
    """A search index in a transaction that is rolled back at the end."""

    store: Store

    def __init__(self):
        self.connection = self.store.writer.connect()
        self.terms = {}

    def add(self, log_index, title, *, keywords=(), body=(), visible_to=("*",), **facets):
        values = dict.fromkeys(FACET_FIELDS, "x") | facets
        texts = IndexedTexts([title], list(keywords), list(body))
        terms = self.terms[log_index] = index_terms(texts, visible_to, values)
        self.connection.execute(
            sa.insert(tables.entries).values(
                product_id=str(log_index),
                issuer="i",
                version=1,
                digest="d",
                withdrawn=False,
                log_index=log_index,
                valid_until=10,
                envelope=str(log_index).encode(),
                terms=terms,
            )
        )
        add_to_index(
            self.connection,
            log_index=log_index,
            product_id=str(log_index),
            terms=terms,
            facets=values,
            valid_until=10,
        )

    def remove(self, log_index):
        remove_from_index(self.connection, log_index=log_index, terms=self.terms[log_index])

    def page(self, text, *, viewer=VIEWER, filters=None, hidden=(), now=5, size=20, cursor=None):
        return search_index(
            self.connection,
            text,
            viewer=viewer,
            filters=filters or {},
            hidden_issuers=hidden,
            now=now,
            size=size,
            cursor=cursor,
        )

    def find(self, text, **options):
        return [int(envelope) for envelope in self.page(text, **options).envelopes]

    def close(self):
        self.connection.rollback()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@given(title=HANZI, data=st.data())
@settings(deadline=None)
def test_any_substring_of_a_chinese_title_finds_it(title, data):
    start = data.draw(st.integers(0, len(title) - 1))
    size = data.draw(st.integers(1, len(title) - start))
    with Index() as index:
        index.add(1, title)
        assert index.find(title[start : start + size]) == [1]


@given(title=HANZI, pair=st.text(st.sampled_from("肺癌生存数据的"), min_size=2, max_size=2))
@settings(deadline=None)
def test_two_characters_that_are_not_side_by_side_find_nothing(title, pair):
    with Index() as index:
        index.add(1, title)
        assert index.find(pair) == ([1] if pair in title else [])


@given(text=st.text(max_size=300))
@settings(deadline=None)
def test_no_text_breaks_the_query(text):
    with Index() as index:
        index.add(1, "Lung cancer 肺癌")
        try:
            index.find(text)
        except QueryTooLongError:
            assert len(text) > 16


@given(
    titles=st.lists(
        st.lists(
            st.sampled_from(["lung", "cancer", "肺癌", "生存数据", "lungs"]),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=30,
    ),
    text=st.sampled_from(["", "lung", "肺癌", "lung 肺癌", "数据", "据", "肺癌数据", "canc"]),
    size=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_paging_returns_each_once_in_one_order(titles, text, size, seed):
    places = random.Random(seed)
    with Index() as index:
        for number, words in enumerate(titles):
            cut = places.randrange(len(words) + 1)
            index.add(number, " ".join(words[:cut]), body=words[cut:])
        whole = index.page(text, size=100)
        walked = []
        cursor = None
        while True:
            page = index.page(text, size=size, cursor=cursor)
            assert (page.total, page.facets) == (whole.total, whole.facets)
            walked.extend(page.envelopes)
            if page.following is None:
                break
            assert len(page.envelopes) == size
            cursor = page.following
            # What is published between two pages stays out of the walk.
            index.add(1000 + len(walked), "lung 肺癌 生存数据")
        assert walked == list(whole.envelopes)
        assert whole.total == len(walked) == len(set(walked))


def test_tiers_then_newest_first():
    with Index() as index:
        index.add(0, "肺癌生存数据")
        index.add(1, "影像", keywords=["肺癌"])
        index.add(2, "肺癌影像")
        index.add(3, "其他", body=["本产品含肺癌病例"])
        index.add(4, "癌肺")
        index.add(5, "影像", keywords=["肺癌"])
        assert index.find("肺癌") == [2, 0, 5, 1, 3]


def test_words_run_together_are_found_apart_and_last():
    with Index() as index:
        index.add(0, "糖尿病患者住院记录")
        index.add(1, "糖尿病住院")
        index.add(2, "糖尿病")
        assert index.find("糖尿病住院") == [1, 0]


def test_latin_words_fold_and_match_as_beginnings_last():
    with Index() as index:
        index.add(0, "Hôpital HOSPITALS")
        index.add(1, "a hospital")
        assert index.find("hospital") == [1, 0]
        assert index.find("hopital") == [0]
        assert index.find("ho") == []


def test_only_what_is_visible_is_found_counted_or_faceted():
    with Index() as index:
        index.add(0, "肺癌", visible_to=["*"], issuer="a")
        index.add(1, "肺癌", visible_to=[VIEWER, "b"], issuer="b")
        index.add(2, "肺癌", visible_to=["urn:luoshu:demo:other"], issuer="c")
        page = index.page("肺癌")
        assert [int(envelope) for envelope in page.envelopes] == [1, 0]
        assert page.total == 2
        assert {f.value for f in page.facets if f.field == "issuer"} == {"a", "b"}
        assert index.find("肺癌", viewer="nobody") == [0]
        assert index.find("", viewer="nobody") == [0]


def test_filters_facets_hidden_issuers_and_validity():
    with Index() as index:
        for number in range(6):
            index.add(
                number,
                "data",
                issuer=f"h{number % 2}",
                level="general" if number < 4 else "important",
                theme='with "quotes" and 空格',
            )
        assert index.find("data", filters={"issuer": ["h0"]}) == [4, 2, 0]
        assert index.find("data", filters={"issuer": ["h0", "h1"], "level": ["important"]}) == [
            5,
            4,
        ]
        assert (
            index.find("data", filters={"theme": ['with "quotes" and 空格'], "issuer": ["no"]})
            == []
        )
        assert index.find("data", hidden=["h1"]) == [4, 2, 0]
        assert index.find("data", now=10) == []
        counted = Counter({(f.field, f.value): f.count for f in index.page("data").facets})
        assert counted["level", "general"] == 4
        assert counted["issuer", "h0"] == 3


def test_removed_entries_leave_no_trace():
    with Index() as index:
        index.add(0, "肺癌生存 lung")
        index.add(1, "肺癌 lung")
        index.remove(0)
        assert index.find("肺癌") == [1]
        assert index.find("生存") == []
        assert index.page("lung").total == 1
