"""Section: final losses of GRPO and PAPO, paired by seed."""

from __future__ import annotations

from analysis.questions.pairs import algorithm_pairs, pair_summary
from analysis.reporting.study import Study
from analysis.reporting.tables import Column, Table, ends_of, of
from analysis.words import contains_zero, counted, interval, number, whole
from scaling.schema import InputError


def algorithms_table(study: Study) -> Table | None:
    """GRPO against PAPO per size and condition: means, difference paired by seed, interval, number of pairs."""
    try:
        pairs = algorithm_pairs(study.curves)
    except InputError:
        return None
    frame = pair_summary(pairs)[::-1].reset_index(drop=True)
    known = frame["pairs"] > 1
    frame["low"], frame["high"] = frame["low"].where(known), frame["high"].where(known)
    signed = lambda value: number(value, sign=True)  # noqa: E731
    columns = [
        Column("size", of("label")),
        Column("pairs", of("pairs", whole)),
        Column("GRPO", of("mean_baseline", number)),
        Column("PAPO", of("mean_other", number)),
        Column("PAPO − GRPO", of("difference", signed)),
        Column("95 %", lambda row: interval(ends_of(row), signed)),
    ]
    note = (
        f"Final test loss, mean of the evaluations at {pairs['window'].iloc[0]}; the difference is paired by seed: "
        "one base model and one stream of prompts for both runs."
    )
    return Table("algorithms", "GRPO and PAPO, paired by seed", frame, columns, note)


def algorithm_sentences(table: Table | None) -> list[str]:
    """The difference at each size with its number of pairs, in words that its interval allows."""
    if table is None:
        return []
    said = []
    for row in table.frame.to_dict("records"):
        ends, pairs = ends_of(row), int(row["pairs"])
        text = f"{row['label']}: PAPO minus GRPO is {number(row['difference'], sign=True)}"
        if ends is None:
            said.append(f"{text} in one pair, so there is no interval.")
            continue
        text += f" {interval(ends, lambda v: number(v, sign=True))} over {counted(pairs, 'pair')}"
        word = "is indistinguishable from zero" if contains_zero(ends) else "the interval excludes 0"
        few = f"; an interval from {pairs} pairs is wide, more seeds would narrow it" if pairs <= 3 else ""
        said.append(f"{text}: {word}{few}.")
    return said
