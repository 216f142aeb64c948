"""How texts become index terms."""

import pytest

from luoshu.connector.catalog.tokens import HEAD, TITLE, Run, index_text, runs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  , 。!", []),
        ("Lung cancer", [("lung", False), ("cancer", False)]),
        ("肺癌生存数据", [("肺癌生存数据", True)]),
        ("CT影像2024年", [("ct", False), ("影像", True), ("2024", False), ("年", True)]),
        ("Résumé ÅNGSTRÖM naïve", [("resume", False), ("angstrom", False), ("naive", False)]),
        ("ＬＵＮＧ　１２", [("lung", False), ("12", False)]),
        ("Straße", [("strasse", False)]),
        ("肺癌、生存", [("肺癌", True), ("生存", True)]),
        ("k_1 a-b", [("k", False), ("1", False), ("a", False), ("b", False)]),
        ("~^@=_\"'*()", []),
        ("\U00030edd麻辣", [("\U00030edd麻辣", True)]),
    ],
)
def test_runs(text, expected):
    assert list(runs(text)) == [Run(*pair) for pair in expected]


def test_index_text_holds_bigrams_in_order_then_single_characters():
    assert index_text(_runs("肺癌生存", "Lung 癌")) == "肺癌 癌生 生存 _ _ lung _ _ 肺 癌 生 存"


def test_places_have_terms_of_their_own():
    text = _runs("肺癌 a")
    assert index_text(text, TITLE) == "~肺癌 _ ~a _ ~肺 ~癌"
    assert set(index_text(text, TITLE).split()) & set(index_text(text, HEAD).split()) == {"_"}


def _runs(*texts):
    return [tuple(runs(text)) for text in texts]
