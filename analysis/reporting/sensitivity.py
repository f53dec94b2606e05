"""Section: the same data under other choices."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.missing import Missing
from analysis.reporting.study import Study
from analysis.reporting.tables import Column, Table, of
from analysis.words import AXES, amount, counted, number, parameter, span, window_in_words


def sensitivity_table(study: Study) -> Table | None:
    """What moves when one choice is changed."""
    if study.main is None:
        return None
    rows: list[dict[str, Any]] = []
    labels, symbols = study.fit_labels, study.main.law.symbols
    sizes = [line["num_params"] for line in study.main.json()["per_size"]]
    for words, fitted in [("this page", study.main), *study.alternatives]:
        row: dict[str, Any] = {"choice": words}
        if isinstance(fitted, Missing):
            row["reason"] = fitted.reason
        else:
            document = fitted.json()
            # Sizes stand in the same order however N is counted.
            row |= {f"k_{n:.0f}": line["efficiency"] for n, line in zip(sizes, document["per_size"], strict=False)}
            row |= {name: value["value"] for name, value in document["values"].items()}
            row |= {f"{name}_text": parameter(value) for name, value in document["values"].items()}
            row |= {name: document["goodness"].get(name) for name in ("r2_pooled", "r2_pooled_constant")}
        rows.append(row)
    frame = pd.DataFrame(rows)
    columns = [Column("choice", of("choice"))]
    columns += [Column(f"k({short_label(study, n)})", of(f"k_{n:.0f}", amount)) for n in sizes if n in labels]
    columns += [Column(symbols[name], of(f"{name}_text")) for name in study.main.json()["values"]]
    columns += [
        Column("pooled R2", of("r2_pooled", three)),
        Column("the same with k = 0", of("r2_pooled_constant", three)),
    ]
    failed = [f"{row['choice']}: {row['reason']}" for row in rows if row.get("reason")]
    note = f"This page: {choice_words(study)}. One choice changed at a time. " + (
        f"Not fitted: {'; '.join(failed)}" if failed else ""
    )
    return Table("sensitivity", "The same data under other choices", frame, columns, note)


def short_label(study: Study, size: float) -> str:
    """`xs` of `xs 20.8k`."""
    label = study.fit_labels[size]
    return label if study.main and study.main.law.group else label.split()[0]


def three(value: float) -> str:
    return number(value)


def choice_words(study: Study) -> str:
    assert study.main is not None
    held = study.main.record["held_out"]
    words = [window_in_words(study.main.record), f"{study.choices.objective} objective", axis_words(study.main_axis)]
    if held is not None:
        part = held["split"].partition(":")[2]  # of each curve; none where the largest size is held out
        words.append(f"the first {100 * float(part):.0f} % of each curve" if part else
                     f"without {study.fit_labels[held['num_params']]}")  # fmt: skip
    return ", ".join(words)


def axis_words(axis: str) -> str:
    return AXES.get(axis, axis)


def sensitivity_sentences(study: Study, table: Table | None) -> list[str]:
    """Over which range the conclusions move."""
    if table is None or study.main is None or "r2_pooled" not in table.frame:
        return []
    frame = table.frame
    last = study.main.json()["per_size"][-1]["num_params"]
    fits = [fitted for _, fitted in study.alternatives if not isinstance(fitted, Missing)]
    said = [f"The choice of this page is {choice_words(study)}; {counted(len(fits), 'other choice')} were tried."]
    k = frame[f"k_{last:.0f}"].dropna()
    law, label = study.main.law, study.fit_labels[last]
    within = span(k.tolist())
    lies = f"lies within {within}" if "–" in within else f"is {within}"
    said.append(f"Over all of them k of the largest {law.each}, {label}, {lies}.")
    documents = [study.main.json(), *(fitted.json() for fitted in fits)]
    for name in study.main.json()["values"]:
        identified = sum(document["values"].get(name, {}).get("identified", False) for document in documents)
        said.append(f"{law.symbols[name]} is identified under {identified} of {len(documents)}.")
    pooled, constant = frame["r2_pooled"].dropna(), frame["r2_pooled_constant"].dropna()
    if pooled.empty or constant.empty:
        return [*said, "There is no R2: the loss does not vary."]
    said.append(
        f"Pooled R2 stays within {span(pooled.tolist(), number)} throughout, beside "
        f"{span(constant.tolist(), number)} for "
        "k = 0: it does not tell these choices apart."
    )
    return said
