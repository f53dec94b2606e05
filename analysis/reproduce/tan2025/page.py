"""The page of the reference study: its contents, what the shipped data do not support, and the template filled in."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from analysis.missing import Missing
from analysis.reporting.drawing import Drawing
from analysis.reporting.markup import TEMPLATES, environment
from analysis.reporting.tables import Table
from analysis.reproduce.tan2025.predictions import inter_sentence
from analysis.reproduce.tan2025.study import Study
from analysis.reproduce.tan2025.tables import fits_sentence, window_sentence

MISSING = {
    "transfer to other domains": "the losses on other test sets were not read off",
    "response length": "not read off",
    "loss against N for trained and public models": "not read off",
    "instruct and Llama models": "only base models are shipped; no Llama curve that was published measures a run",
}
CONTENTS = [
    ("fits", "Fitted parameters", "Do the published Kmax and N0 come out, and how well are they known?"),
    ("inter", "Predicting a larger size", "Is 72B predicted by the smaller sizes, or fitted?"),
    ("intra", "Predicting the rest of a curve", "Does the first part of a curve tell its end?"),
    ("efficiency", "Learning efficiency", "How do k and E change with size, on both axes?"),
    ("decomposition", "Loss decomposition", "What does the three-part law predict?"),
    ("final", "Final loss", "Where do the sizes end, and how far do repeats scatter?"),
    ("reuse", "Data reuse", "From which reuse on is the loss worse?"),
    ("group-size", "Group size", "Which number of rollouts is best at a budget?"),
    ("frontier", "Compute-optimal size", "Are larger models better at a fixed budget?"),
    ("odd", "What is odd in these data", "What must a reader not average away?"),
    ("findings", "The four findings", "What of the study's conclusions do its own curves support?"),
    ("missing", "What is not here", "Which tables and figures cannot be made from the shipped curves?"),
]
PLACES = {
    "fits": (["fits", "windows"], ["windows"]),
    "inter": (["inter"], ["inter_compute", "inter_prompts"]),
    "intra": (["intra"], ["intra_compute", "intra_prompts"]),
    "efficiency": (["efficiency"], ["efficiency_compute", "efficiency_prompts"]),
    "decomposition": (["decomposition"], ["decomposition"]),
    "final": (["final"], []),
    "reuse": (["reuse"], ["reuse"]),
    "group-size": (["group_size"], ["group_size"]),
    "frontier": ([], ["frontier"]),
    "odd": (["odd", "late"], []),
    "findings": (["findings"], []),
    "missing": ([], []),
}


def render(study: Study, drawings: Mapping[str, Drawing | Missing], tables: Mapping[str, Table]) -> str:
    return (
        environment()
        .get_template("reproduce.html.j2")
        .render(
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8").strip()),
            title="Scaling of RL post-training: the reference study from its own curves",
            subtitle="Tan et al., arXiv 2509.25300 · Qwen2.5 base models, 0.5B–72B · curves read off the figures",
            contents=CONTENTS,
            places=PLACES,
            figures=drawings,
            tables=tables,
            missing=list(MISSING.items()),
            summary=[
                ("The published fits", fits_sentence(tables["fits"].frame)),
                ("Predicting 72B", inter_sentence(tables["inter"].frame)),
                ("How well N0 is known", window_sentence(tables["windows"].frame.to_dict("records"))),
            ],
            hashes=[(name, curves.source, curves.data_hash) for name, curves in study.curves.items()],
        )
        + "\n"
    )
