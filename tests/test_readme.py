"""The README is checked against the code: commands, links, keys, defaults and the output that can be had again."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from scaling import cli, schema
from scaling.config.reading import dump, read_yaml
from scaling.config.run import RunConfig
from sweeps.study import ANALYSIS_KEYS, BLOCK_KEYS, KEYS, STUDIES, check_path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("analysis/reference/*.md"))]


def commands() -> list[str]:
    """Every `scaling ...` in backquotes or after a prompt."""
    inline = re.findall(r"`(scaling [^`]+)`", TEXT)
    return sorted({*inline, *re.findall(r"^\$ (scaling .+)$", TEXT, re.MULTILINE)})


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line):
    command, words = typer.main.get_command(cli.app), shlex.split(line)[1:]
    while isinstance(command, cli.LazyGroup) and words:
        context = command.context_class(command)
        assert words[0] in command.list_commands(context), f"{line}: no command {words[0]}"
        _, command, words = command.resolve_command(context, words)
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    headings = {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http"):
            assert (page.parent / target).exists(), target


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading."""
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    section = prose.split(f"\n{heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [re.split(r"\s*\|\s*", line.strip("| ")) for line in lines[2:]]


def test_every_key_of_a_study_file_is_explained():
    named = [re.sub(r"`", "", row[0]) for row in rows("## The study file")]
    assert [name for name in named if "." not in name] == [*KEYS]
    assert {name.removeprefix("blocks[].") for name in named if "." in name} == set(BLOCK_KEYS)
    analysis = next(row[1] for row in rows("## The study file") if row[0] == "`analysis`")
    assert set(re.findall(r"`(\w+)`", analysis)) == set(ANALYSIS_KEYS)


def test_fields_and_defaults_of_a_run_are_the_codes():
    values = dump(RunConfig.model_validate({"model": "xs"}))
    for names, default, _ in rows("### One run"):
        first, *more = re.findall(r"`([\w.]+)`", names)
        fields = [first, *(name if not name.startswith(".") else first.rpartition(".")[0] + name for name in more)]
        expected = re.sub(r"`", "", default).split(", ")
        for field, shown in zip(fields, expected, strict=False):
            check_path(field, "README")
            value = values
            for key in field.split("."):
                value = value.get(key) if isinstance(value, dict) else value
            words = {"true": True, "false": False}
            if value is None or shown == "" or not re.match(r"^[\d.e-]+( steps)?$|^true$|^grpo$", shown):
                continue  # a default in words
            shown = shown.removesuffix(" steps")
            assert value == (words[shown] if shown in words else shown if shown == "grpo" else float(shown)), field


def test_columns_of_the_glossary_exist():
    known = {*schema.COLUMNS, "efficiency", "intercept", "k_max", "n0", "identified"}
    named = {name for row in rows("## Glossary") for name in re.findall(r"`(\w+)`", row[-1])}
    assert len(named) > 12 and named <= known, named - known


def test_the_study_shown_is_the_shipped_one():
    shown = "".join(line + "\n" for line in BLOCKS["yaml"].splitlines())
    shipped = (STUDIES / "quickstart.yaml").read_text(encoding="utf-8")
    assert shown == shipped


def test_the_output_shown_is_the_output():
    block = next(b for b in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) if "reference:" in b)
    line, _, shown = block.partition("\n")
    code = "from scaling.cli import main; main()"
    arguments = shlex.split(line.removeprefix("$ scaling "))
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert [row.rstrip() for row in shown.strip().splitlines()] == [row.rstrip() for row in result.stdout.splitlines()]


def test_the_published_numbers_are_those_shown():
    """The table that the README shows holds Kmax and N0 of Tan et al.'s intra-model protocol."""
    block = next(b for b in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) if "reference:" in b)
    assert re.search(r"k_max\s+0\.1349\b", block) and re.search(r"n0\s+13\.09e9", block)


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert read_yaml(ROOT / "CITATION.cff")["version"] == version
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and newest[1] == version


def test_the_map_is_of_this_house():
    """Every file and folder of the packages has its line in docs/architecture.md, and every one named there exists."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tables = dict(re.findall(r"^### (\w+):.*?\n\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL))
    assert tables.keys() == {"scaling", "analysis", "sweeps"}
    for package, table in tables.items():
        named = {
            name.rstrip("/").split("/")[0]
            for row in table.splitlines()
            for name in re.findall(r"`(.+?)`", row.split("|")[1])
        }
        present = {path.name for path in (ROOT / package).iterdir() if path.suffix == ".py" or path.is_dir()}
        assert named == present - {"__init__.py", "__main__.py", "__pycache__"}, package
    for path in re.findall(r"`((?:scaling|analysis|sweeps|tests)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


def test_shipped_studies_are_named():
    assert all(f"`{path.stem}`" in TEXT for path in STUDIES.glob("*.yaml"))
    assert json.loads((ROOT / "tests" / "golden" / "run_ids.json").read_text()).keys() == {
        path.stem for path in STUDIES.glob("*.yaml")
    }
