"""The wheel holds everything that a user needs: built, unpacked elsewhere, and run from there."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, so that no build folder stands in the checkout and nothing untracked there gets into the wheel.
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), wheel]
    subprocess.run(pip, check=True, capture_output=True)
    return wheel, target


def run(target: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The installed command, with the installed packages before those of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(target / "bin" / "scaling"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_wheel_fits_the_published_curves(installed, tmp_path):
    _, target = installed
    result = run(
        target, tmp_path, "fit", "reference:qwen2.5_base", "--objective", "linear", "--points", ":-80", "--json"
    )
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)["values"]
    assert values["k_max"]["value"] == pytest.approx(0.1349, abs=5e-5)  # the published protocol, laws.md
    assert values["n0"]["value"] == pytest.approx(13.09e9, abs=5e6)


def test_it_is_the_wheel_that_runs_and_it_has_the_shipped_studies(installed, tmp_path):
    _, target = installed
    code = "import scaling, sweeps, analysis; print(scaling.__file__, sweeps.__file__, analysis.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.stdout.count(str(target)) == 3, shown.stdout + shown.stderr
    plan = run(target, tmp_path, "sweep", "plan", "small", "--json")
    assert len(json.loads(plan.stdout)["runs"]) == 45, plan.stderr
    # A folder of the user's that is called like one of ours does not get in the way.
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").write_text("raise SystemExit('the wrong analysis')")
    assert run(target, tmp_path, "laws").returncode == 0


def test_every_data_file_is_in_the_wheel(installed):
    wheel, _ = installed
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    ours = [name for name in tracked if name.split("/")[0] in ("scaling", "sweeps", "analysis")]
    assert [name for name in ours if name not in inside] == []
    assert any(name.endswith("licenses/LICENSE") for name in inside)
