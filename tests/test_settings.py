"""Nested settings as dotted names: one function for studies, for the tracking store and for the report."""

from scaling.settings import dotted_pairs, flatten

NESTED = {"seed": 1, "data": {"seed": 2, "order": {}, "size": {"n": None}}, "stop.steps": 60, "axes": [{"a": 1}]}


def test_parts_become_dotted_names_and_lists_stay():
    assert flatten(NESTED) == {
        "seed": 1, "data.seed": 2, "data.size.n": None, "stop.steps": 60, "axes": [{"a": 1}],
    }  # fmt: skip
    assert list(flatten({"steps": 3}, "stop.")) == ["stop.steps"]


def test_an_empty_part_is_kept_where_it_is_a_value():
    assert "data.order" not in flatten(NESTED)
    assert flatten(NESTED, keep_empty=True)["data.order"] == {}
    assert flatten({}, keep_empty=True) == {}


def test_a_name_that_is_set_twice_comes_twice():
    twice = {"data": {"seed": 1}, "data.seed": 2}
    assert list(dotted_pairs(twice)) == [("data.seed", 1), ("data.seed", 2)]
    assert flatten(twice) == {"data.seed": 2}
