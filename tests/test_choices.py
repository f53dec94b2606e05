"""The choices of a fit: checked where they are made, merged with a study's own, and the same for every question."""

import json
from dataclasses import FrozenInstanceError, fields, replace

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
        for kind in ("grpo", "papo"):
            settings = {"algorithm": {"type": kind}}
            write_run(tmp_path / "s", f"{kind}{seed:08d}", steps=20, size=5000, seed=seed, settings=settings)
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


def test_a_fit_tells_its_choices(curves):
    chosen = {"x": "prompts_seen", "steps": "5:", "where": "num_params > 1e9", "split": "intra:0.5", "seed": 4}
    fit = analysis.fit(curves, **chosen)
    assert fit.choices == Choices(**{**chosen, "where": "(num_params > 1e9)", "size_column": "num_params"})
    again = analysis.fit(curves, **{**chosen, "where": fit.choices.where, "size_column": "num_params"})
    assert again.values == fit.values and again.record["n_points"] == fit.record["n_points"]
