"""The wheel holds everything that a user needs: built, unpacked elsewhere, and run from there."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.launch

ROOT = Path(__file__).parent.parent
PACKAGES = ("scaling", "sweeps", "analysis")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, so that no build folder stands in the checkout.
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
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
    ours = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    names = [str(path.relative_to(ROOT)) for path in ours if "__pycache__" not in path.parts]
    assert [name for name in names if name not in inside] == []
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside  # type checkers read our annotations
