"""What one text changes of another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.kit.errors import Invalid
from hub.reports.review.diff import compare, conclusion_differences, plain, words
from hub.reports.review.grades import radpeer

TEXT = st.text(alphabet="左右肺上下叶见影,。 3.2cm\n", max_size=60)


@given(TEXT, TEXT)
def test_both_texts_are_in_the_comparison(before: str, after: str) -> None:
    pieces = compare(before, after)
    assert "".join(piece.before for piece in pieces) == before
    assert "".join(piece.after for piece in pieces) == after
    assert all(piece.before == piece.after for piece in pieces if piece.kind == "same")
    # Each change can be taken back by itself.
    for index, piece in enumerate(pieces):
        if piece.kind == "change":
            kept = "".join(one.before if place == index else one.after for place, one in enumerate(pieces))
            assert len(kept) == len(after) - len(piece.after) + len(piece.before)


def test_words() -> None:
    assert words("3.2cm×2.5 mm左肺") == ["3.2", "cm", "×", "2.5", " ", "mm", "左", "肺"]
    changes = [
        (one.before, one.after)
        for one in compare("左肺上叶见结节,大小3.2cm。", "右肺下叶见结节,大小3.5cm。")
        if one.kind == "change"
    ]
    assert changes == [("左肺上", "右肺下"), ("3.2", "3.5")]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("右侧基底节区脑出血。", "右侧基底节区脑出血", True),
        ("1. 脑出血;2. 骨折", "1.脑出血 2.骨折。", True),
        ("结节3.2cm", "结节32cm", False),
        ("占位(-)", "占位(+)", False),
        ("未见出血", "见出血", False),
    ],
)
def test_punctuation_is_no_conclusion(one: str, other: str, same: bool) -> None:
    assert (plain(one) == plain(other)) is same
    body = {"positive": True, "critical": False}
    found = conclusion_differences({**body, "impression": one}, {**body, "impression": other})
    assert found == ([] if same else ["impression"])


def test_marks_are_a_conclusion() -> None:
    one = {"impression": "a", "positive": True, "critical": False}
    assert conclusion_differences(one, {**one, "positive": False}) == ["positive"]
    assert conclusion_differences(one, {**one, "critical": True}) == ["critical"]


def test_grades_are_radpeer_scores() -> None:
    wanted = {
        ("agree", None): "1",
        ("agree", False): "1",
        ("minor", False): "2a",
        ("minor", True): "2b",
        ("disagree", False): "3a",
        ("disagree", True): "3b",
    }
    for (agreement, significant), score in wanted.items():
        assert radpeer(agreement, significant) == score
    for agreement, significant in (("agree", True), ("minor", None), ("disagree", None), ("", None), ("good", False)):
        with pytest.raises(Invalid):
            radpeer(agreement, significant)
