"""Section: final losses of algorithms, paired by seed, each against the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.missing import Missing
from analysis.questions.pairs import Compared, pair_summary
from analysis.reporting.tables import Column, Table, ends_of, of
from analysis.words import contains_zero, counted, interval, number, signed, whole


def algorithms_title(compared: Compared | Missing) -> str:
    return "Algorithms" if isinstance(compared, Missing) else " against ".join(compared.names())


def algorithms_table(compared: Compared | Missing) -> Table | None:
    """Each algorithm against the baseline per size and condition: means, difference paired by seed, interval, number of
    pairs."""
    if isinstance(compared, Missing):
        return None
    base, other = compared.names()
    frame = pair_summary(compared.pairs)[::-1].reset_index(drop=True)
    known = frame["pairs"] > 1
    frame["low"], frame["high"] = frame["low"].where(known), frame["high"].where(known)
    several = len(compared.others) > 1
    columns = [
        Column("size and algorithm" if several else "size", of("label")),
        Column("pairs", of("pairs", whole)),
        Column(base, of("mean_baseline", number)),
        Column("its own" if several else other, of("mean_other", number)),
        Column(f"its own − {base}" if several else f"{other} − {base}", of("difference", signed)),
        Column("95 %", lambda row: interval(ends_of(row), signed)),
    ]
    note = (
        f"Final test loss, mean of the evaluations at {compared.pairs['window'].iloc[0]}; the difference is paired by "
        "seed: one base model and one stream of prompts for both runs."
    )
    return Table("algorithms", f"{base} and {other}, paired by seed", frame, columns, note)


def algorithm_sentences(compared: Compared | Missing, table: Table | None) -> list[str]:
    """The difference at each size with its number of pairs, in words that its interval allows."""
    if isinstance(compared, Missing) or table is None:
        return []
    return [difference_sentence(compared, row) for row in table.frame.to_dict("records")]


def difference_sentence(compared: Compared, row: Mapping[str, Any]) -> str:
    base, other = compared.names()
    ends, pairs = ends_of(row), int(row["pairs"])
    # With several the label names the algorithm.
    what = f"{row['label']} minus {base}" if len(compared.others) > 1 else f"{row['label']}: {other} minus {base}"
    text = f"{what} is {signed(row['difference'])}"
    if ends is None:
        return f"{text} in one pair, so there is no interval."
    text += f" {interval(ends, signed)} over {counted(pairs, 'pair')}"
    word = "indistinguishable from zero" if contains_zero(ends) else "the interval excludes 0"
    few = f"; an interval from {pairs} pairs is wide, more seeds would narrow it" if pairs <= 3 else ""
    return f"{text}: {word}{few}."
