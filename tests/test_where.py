"""Conditions: one grammar, and the same answer for a table's rows as for a block's combinations."""

import pandas as pd
import pytest

from analysis.curves.where import filter_rows
from scaling.schema import InputError
from scaling.where import Setting, parse
from sweeps.study import parse_study

SETTING = Setting("where", "column", "step == 3")
COLUMNS = {
    "model": ["us", "qwen2.5-0.5b", "xs", "us"],
    "step": [1, 2, 3, 4],
    "loss.clip": [0.1, 0.2, 5e-4, -1.0],
    "dense": [True, False, True, True],
    "run": ["5d3cb9ce15b4", "a b", "null", "and"],
}
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]

CONDITIONS = [
    ("model == us", [0, 3]),
    ("model != us", [1, 2]),
    ("us == model", [0, 3]),
    ("'us' == model and step > 1", [3]),
    ("model == qwen2.5-0.5b", [1]),
    ("model in [us, qwen2.5-0.5b]", [0, 1, 3]),
    ("model in us", [0, 3]),
    ("model not in ('us', 'xs')", [1]),
    ("not model in {us}", [1, 2]),
    ("step == 1 or step == 2 and model == us", [0]),
    ("(step == 1 or step == 2) and model == us", [0]),
    ("not (step < 2 or model == xs)", [1, 3]),
    ("not step == 1 and not model == xs", [1, 3]),
    ("1 < step < 4", [1, 2]),
    ("4 >= step > 2.5", [2, 3]),
    ("step\n  > 3", [3]),
    ("loss.clip == 5e-4", [2]),
    ("loss.clip == -1", [3]),
    ("loss.clip in [-1.0, +0.1]", [0, 3]),
    ("loss.clip < step", [0, 1, 2, 3]),
    ("dense == true and step != 3", [0, 3]),
    ("dense == False", [1]),
    ("run == 5d3cb9ce15b4", [0]),
    ('run == "a b"', [1]),
    ("run == 'null'", [2]),
    ("run in ['and', 'a b']", [1, 3]),
]


@pytest.mark.parametrize(("text", "kept"), CONDITIONS)
def test_a_row_and_a_table_agree(text, kept):
    condition = parse(text, SETTING)
    assert [i for i, row in enumerate(ROWS) if condition.holds(row)] == kept
    mask, _ = filter_rows(pd.DataFrame(COLUMNS), text)
    assert mask.nonzero()[0].tolist() == kept


def test_a_block_takes_the_same_conditions():
    block = {"zip": {"model": ["us", "xs", "s"], "seed": [0, 1, 2], "model.base_seed": [None, 1, 1]}}

    def models(where):
        study = parse_study({"study": "q", "blocks": [{**block, "where": where}]}, "q.yaml")
        return [cell.config.model.size for cell in study.cells()]

    assert models("model not in [us, xs]") == ["s"]
    assert models("not (model == us or seed == 1)") == ["s"]
    assert models("0 <= seed < 2") == ["us", "xs"]
    assert models("seed == model.base_seed") == ["xs"]  # two fields
    assert models("model.base_seed == null") == ["us"]
    assert models("model.base_seed != 0") == ["us", "xs", "s"]  # null is a value here: the default


def test_blank_cells_of_a_table_hold_no_comparison():
    table = pd.DataFrame({"n": [1.0, None, 3.0], "word": ["a", "b", None]})
    for text, kept in {
        "n < 2": [0], "n != 1": [2], "not n < 2": [1, 2], "n not in [1]": [2], "word != a": [1],
        "n == null": [1], "null != n": [0, 2], "word == null": [2], "n in [null, 3]": [1, 2], "n not in [null, 3]": [0],
    }.items():  # fmt: skip
        assert filter_rows(table, text)[0].nonzero()[0].tolist() == kept, text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["'' is not a condition", "`field == value`", "e.g. step == 3"]),
        ("step = 3", ["Equality is =="]),
        ("step == 3 and model = us", ["Equality is =="]),
        ("step <= 3 nd model == us", ["not a condition"]),
        ("step == 1 # and\nmodel == us", ["not a condition"]),  # the comment would hide the second line
        ("(step == 1", ["not a condition"]),
        ("model == 'us", ["not a condition"]),
        ("step", ["'step' is not a comparison"]),
        ("step == 1 and model", ["'model' is not a comparison"]),
        ("step == 1 if dense else 2", ["is not a comparison"]),
        ("3 == 3", ["without a column"]),
        ("'step' == 3", ["without a column"]),
        ("step == model.upper()", ["'model.upper()' is neither a column nor a value"]),
        ("step == step + 1", ["'step + 1' is neither a column nor a value"]),
        ("step == [1, 2]", ["a list that does not stand behind `in`"]),
        ("[1] in step", ["a list that does not stand behind `in`"]),
        ("step in [[1]]", ["'[1]' is a list in a list"]),
        ("step is 3", ["`is` is not legal"]),
        ("step == b'3'", ["neither a column nor a value"]),
        ("step == ...", ["neither a column nor a value"]),
        ("loss.clip < 1" + "0" * 400, ["larger than any number"]),
        ("not " * 60 + "step == 1", ["not a condition", "..."]),
    ],
)
def test_what_is_no_condition(text, words):
    with pytest.raises(InputError) as caught:
        parse(text, SETTING)
    assert all(word in str(caught.value) for word in ["where: ", *words]), caught.value
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("model in [us, xz]", ["model is never 'xz' in this block; it is us, xs.", "Did you mean xs?"]),
        ("seed in [0, one]", ["compares a word with a number; seed is '0, 1'"]),
        ("seed == true", ["compares true or false with a number"]),
        ("us in model", ["`in` wants a field on its left"]),
        ("model < us", ["text has no order"]),
        ("seed > null", ["null has no order"]),
        ("(sede == 0) or model == us", ["sede is not set in this block; it sets model, seed.", "Did you mean seed?"]),
        ("not 3", ["'3' is not a comparison", "e.g. model != us or seed == 0"]),
    ],
)
def test_a_block_says_what_its_fields_can_be(where, words):
    block = {"axes": {"model": ["us", "xs"], "seed": [0, 1]}, "where": where}
    with pytest.raises(InputError) as caught:
        parse_study({"study": "q", "blocks": [block]}, "q.yaml").cells()
    assert all(word in str(caught.value) for word in ["q.yaml: main.where: ", *words]), caught.value
