"""A plan is a value: what it refuses, how it prints, that JSON keeps it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_robust_prune.surgery.plan import Plan, Removal

WIDTHS = {"a": 4, "b": 2}


@pytest.mark.parametrize(
    ("removals", "message"),
    [
        ([("c", 0, None)], "not in its widths"),
        ([("a", 4, None)], "has no unit 4"),
        ([("a", -1, None)], "has no unit -1"),
        ([("a", 1, None), ("a", 1, None)], "dropped twice"),
        ([("a", 1, 1)], "gone itself"),
        ([("a", 2, None), ("a", 1, 2)], "gone itself"),
        ([("b", 0, None), ("b", 1, None)], "at least one unit"),
    ],
)
def test_refuses(removals: list[tuple[str, int, int | None]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(tuple(Removal(*item) for item in removals), WIDTHS)


def test_a_unit_may_go_into_one_that_goes_later() -> None:
    plan = Plan((Removal("a", 1, 2), Removal("a", 2, 3)), WIDTHS)
    assert plan.kept("a").tolist() == [0, 3]


def test_counts() -> None:
    plan = Plan((Removal("a", 1), Removal("b", 0, 1)), WIDTHS)
    assert plan.dropped["a"].tolist() == [False, True, False, False]
    assert plan.kept("b").tolist() == [1]
    assert plan.fraction == 2 / 6
    assert Plan().fraction == 0
    assert (Plan((), WIDTHS) + plan.removals) == plan
    assert str(plan).splitlines()[1].split() == ["a", "4", "3"]


@given(st.data())
def test_json_keeps_a_plan(data: st.DataObject) -> None:
    widths = data.draw(st.dictionaries(st.text(min_size=1), st.integers(2, 9), max_size=4))
    removals = []
    for name, width in widths.items():
        order = data.draw(st.permutations(range(width)))
        for drop in order[: data.draw(st.integers(0, width - 1))]:
            removals.append(Removal(name, drop, data.draw(st.sampled_from([None, order[-1]]))))
    plan = Plan(tuple(removals), widths)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["", "{}", '{"removals": [[1]], "widths": {}}', "[1]"])
def test_json_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_json(text)
