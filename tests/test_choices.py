"""The choices of a fit: checked where they are made, merged with a study's own, and the same for every question."""

import json
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from synthetic_curves import synthetic, write_cells, write_run

import analysis
from analysis import commands
from analysis.curves.check import make_curves
from analysis.fitting.choices import Choices, Given, choose, choose_for
from analysis.words import window_in_words
from scaling.schema import InputError

SECTION = {"where": "algorithm == grpo", "steps": "3:", "x": "prompts_seen", "by": "algorithm"}


@pytest.fixture(scope="module")
def curves():
    return replace(make_curves(synthetic(noise=1, steps=20)), defaults=SECTION)


def test_the_keywords_of_public_functions_are_the_fields():
    asked = [name for name in Given.__annotations__ if name != "where_only"]  # how a where is meant, no choice of a fit
    assert asked == [field.name for field in fields(Choices)]


def test_the_line_goes_over_the_section_and_both_over_the_defaults(curves):
    chosen = choose_for(curves, {"steps": "5:", "law": None, "seed": 3})
    assert chosen == Choices(where="algorithm == grpo", steps="5:", x="prompts_seen", seed=3)
    assert choose_for(curves, {}, without=("where",)).where is None
    assert choose_for(curves, {"where": "seed == 0"}, without=("where",)).where == "seed == 0"
    assert choose({}) == Choices()


def test_where_adds_to_the_study_and_where_only_stands_in_its_place(curves):
    assert (
        choose_for(curves, {"where": "seed == 0 or seed == 1"}).where
        == "(algorithm == grpo) and (seed == 0 or seed == 1)"
    )
    assert choose_for(curves, {"where": "algorithm == grpo"}).where == "algorithm == grpo"
    assert choose_for(curves, {"where_only": "seed == 0"}).where == "seed == 0"
    assert choose_for(curves, {}).where == "algorithm == grpo"
    assert choose({"where_only": "seed == 0"}).where == "seed == 0"
    with pytest.raises(InputError, match="give one of them"):
        choose_for(curves, {"where": "seed == 0", "where_only": "seed == 1"})
    with pytest.raises(InputError, match="not a condition"):  # what one leaves open never closes in the other
        choose_for(curves, {"where": "seed == 0) or (seed == 1"})


def test_a_fit_of_a_study_keeps_its_own_condition(tmp_path, capsys):
    """The readme's line `--where "seed == 0"`: it fitted both algorithms before."""
    for seed in (0, 1):
        for kind, k in (("grpo", 0.1), ("papo", 0.12)):
            settings = {"algorithm": {"type": kind}}
            write_run(tmp_path / "s", f"{kind}{seed:08d}", steps=20, size=5000, seed=seed, settings=settings, k=k)
    runs = [(f"{kind}{seed:08d}", 20) for kind in ("grpo", "papo") for seed in (0, 1)]
    write_cells(tmp_path / "s", runs, {"law": "per_size", "where": "algorithm == grpo or reuse_factor > 1"})

    def fitted(**options):
        commands.fit(str(tmp_path / "s"), as_json=True, **options)
        record = json.loads(capsys.readouterr().out)
        return record["runs"], record["window"]["where"]

    own = "algorithm == grpo or reuse_factor > 1"
    assert fitted(where="seed == 0") == (["grpo00000000"], f"({own}) and (seed == 0)")
    assert fitted(where_only="seed == 0") == (["grpo00000000", "papo00000000"], "(seed == 0)")


def test_a_condition_loses_only_brackets_around_all_of_it():
    window = {"first_step": 0, "last_step": 9, "points": None}
    for where, words in [("(seed == 0)", "seed == 0"), ("(a) and (b)", "(a) and (b)"), ("((a) or b)", "(a) or b")]:
        assert window_in_words({"window": window | {"where": where}}).endswith(f"where {words}")


def test_choices_do_not_change():
    with pytest.raises(FrozenInstanceError):
        Choices().law = "sigmoid"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"law": "eficiency"}, "Did you mean efficiency"),
        ({"objective": "linaer"}, "Did you mean linear"),
        ({"steps": "3-60"}, "write e.g. 3:"),
        ({"points": "last"}, "'last' is not A:B"),
        ({"split": "intra:2"}, "no legal fraction"),
        ({"bounds": "narrow"}, "published"),
    ],
)
def test_a_bad_choice_is_refused_where_it_is_made(given, words):
    with pytest.raises(InputError, match=words):
        Choices(**given)


def test_what_a_question_does_not_take_is_refused(curves):
    for ask, word in [
        (lambda: analysis.fit(curves, objectve="log"), "Did you mean objective"),
        (lambda: analysis.forecast(curves, 7e9, 1e4, split="inter"), "'split'"),
        (lambda: analysis.frontier(curves, split="inter"), "'split'"),
        (lambda: analysis.compare_laws(curves, ["efficiency", "per_size"], law="sigmoid"), "'law'"),
        (lambda: analysis.compare_by(curves, law="sigmoid"), "'law'"),
        (lambda: analysis.compare_by(curves, objective="linear"), "'objective'"),
    ]:
        with pytest.raises(InputError, match=word):
            ask()


WRONG_TYPES = {
    "a table": (lambda c: analysis.fit(c.frame()), "analysis.make_curves(table)"),
    "no source": (lambda c: analysis.fit(None), "source: None is none; a source is a study folder"),
    "where": (lambda c: analysis.fit(c, where=5), "where wants text, such as 'algorithm == grpo', not 5"),
    "split": (lambda c: analysis.fit(c, split=0.3), "split wants text, such as 'inter', not 0.3"),
    "x": (lambda c: analysis.fit(c, x=3), "x wants text, such as 'train_flops', not 3"),
    "objective": (lambda c: analysis.fit(c, objective=1), "objective wants text"),
    "size_column": (lambda c: analysis.fit(c, size_column=1), "size_column wants text"),
    "bounds": (lambda c: analysis.fit(c, bounds=True), "bounds wants text, such as 'published', not True"),
    "by": (lambda c: analysis.fit(c, by=5), "by wants text"),
    "seed": (lambda c: analysis.fit(c, seed="a"), "seed wants a whole number from 0 on, not 'a'"),
    "law": (lambda c: analysis.fit(c, law=3), "law: 3 is neither a name"),
    "fix": (lambda c: analysis.fit(c, fix=13e9), "fix wants text such as 'n0=13e9', a list of such, or a mapping"),
    "fix in a list": (lambda c: analysis.fit(c, fix=[13e9]), "fix wants text"),
    "size as text": (lambda c: analysis.forecast(c, "64e6", 1e16), "num_params wants a number, not '64e6'"),
    "no X": (lambda c: analysis.forecast(c, 64e6, []), "at wants a list, such as [1e12, 1e13], not []"),
    "X as text": (lambda c: analysis.forecast(c, 64e6, ["1e9"]), "at wants a number, not '1e9'"),
    "half a point": (lambda c: analysis.forecast(c, 64e6, 1e9, calibrate=2.5), "calibrate wants a whole number"),
    "points below 0": (lambda c: analysis.score_protocols(c, calibrate=-1), "calibrate wants a whole number from 0 on"),
    "target": (lambda c: analysis.frontier(c, target="a"), "target wants a number, not 'a'"),
    "a list for a table": (lambda c: make_curves([1]), "make_curves wants a table, a pandas DataFrame, not [1]"),
    "out": (lambda c: analysis.report(c, out=5), "out wants a folder, as text or a Path, not 5"),
    "laws in one text": (lambda c: analysis.compare(c, laws="efficiency,per_size"), "laws wants a list, such as ['"),
    "a blank column": (lambda c: analysis.compare(c, by=""), "by wants text, such as 'algorithm', not ''"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_value_of_another_type_is_refused_in_one_line(curves, name):
    ask, words = WRONG_TYPES[name]
    with pytest.raises(InputError) as error:
        ask(curves)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_numbers_of_numpy_are_numbers(curves):
    one, other = (analysis.forecast(curves, np.float64(7e9), at, seed=np.int64(0)) for at in (np.array([1e19]), 1e19))
    assert one["predictions"] == other["predictions"] and len(one["predictions"]) == 1


def test_a_fit_tells_its_choices(curves):
    chosen = {"x": "prompts_seen", "steps": "5:", "where": "num_params > 1e9", "split": "intra:0.5", "seed": 4}
    fit = analysis.fit(curves, **chosen)
    assert fit.choices == Choices(**{**chosen, "where": "(num_params > 1e9)", "size_column": "num_params"})
    again = analysis.fit(curves, **{**chosen, "where": fit.choices.where, "size_column": "num_params"})
    assert again.values == fit.values and again.record["n_points"] == fit.record["n_points"]
