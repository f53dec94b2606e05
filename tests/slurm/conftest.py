"""A real one-host SLURM for the tests of this folder: root and Debian are needed, elsewhere they are skipped.

SLURM_TESTS=1 turns the skip into a failure.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import studies

from scaling import files

HERE = Path(__file__).parent
NODES = 3
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


class Lab:
    """The cluster, and what tests do to it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def call(self, command: str) -> str:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def try_call(self, command: str) -> None:
        """For what may come too late: a job that has ended cannot be signalled."""
        subprocess.run(shlex.split(command), capture_output=True, timeout=60)

    def user_signal(self, on: bool) -> None:
        """Whether a pre-empted job gets its warning signal first."""
        conf = self.folder / "etc" / "slurm.conf"
        line = "SlurmctldParameters=preempt_send_user_signal"
        lines = [text for text in conf.read_text().splitlines() if not text.startswith("SlurmctldParameters")]
        conf.write_text("\n".join([*lines, line] if on else lines) + "\n")
        self.call("scontrol reconfigure")

    def settings(self, **values: object) -> None:
        """Change lines of slurm.conf that a running cluster takes up."""
        conf = self.folder / "etc" / "slurm.conf"
        lines = [text for text in conf.read_text().splitlines() if text.partition("=")[0] not in values]
        conf.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in values.items())]) + "\n")
        self.call("scontrol reconfigure")

    def stop_accounting(self) -> None:
        pid = int((self.folder / "run" / "slurmdbd.pid").read_text())
        os.kill(pid, 9)

    def start_accounting(self) -> None:
        (self.folder / "run" / "slurmdbd.pid").unlink(missing_ok=True)
        self.call("slurmdbd")

    def node_down(self, node: str) -> None:
        """The node's daemon dies and the node is declared down; its processes go on, as they do on a lost network."""
        os.kill(int((self.folder / "run" / f"slurmd.{node}.pid").read_text()), 9)
        self.call(f"scontrol update nodename={node} state=down reason=test")

    def node_up(self, node: str) -> None:
        self.call(f"slurmd -N {node} -f {self.folder}/etc/slurm.conf")
        self.try_call(f"scontrol update nodename={node} state=resume")


@contextlib.contextmanager
def cluster(offset=0, **settings):
    """A cluster of three nodes, partitions `main` and `low` (`main` pre-empts `low`) and `few` (two jobs a user)."""
    reason = None
    if os.geteuid() != 0:
        reason = "a one-host SLURM needs root"
    elif not (shutil.which("slurmctld") or shutil.which("apt-get")):
        reason = "a one-host SLURM needs slurmctld, or Debian's apt-get to install it"
    if reason:
        assert os.environ.get("SLURM_TESTS") != "1", reason
        pytest.skip(reason)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: it holds unix sockets
    port = int(os.environ.get("SLURMLAB_PORT", "27817")) + 50 * WORKER + offset
    settings = {"NODES": NODES, "CPUS": 2, "SIGNAL": 1, "PORT": port, **settings}
    before = os.environ.get("SLURM_CONF")
    try:
        with files.exclusive(Path("/tmp/slurmlab-install.lock")):  # two at once would both install the packages
            up = subprocess.run(
                ["bash", HERE / "up.sh", folder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                env=os.environ | {f"SLURMLAB_{name}": str(value) for name, value in settings.items()},
                stderr=(folder / "up.log").open("w"), timeout=600,
            )  # fmt: skip
        assert up.returncode == 0, (folder / "up.log").read_text()
        os.environ["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
        yield Lab(folder)
    finally:
        subprocess.run(["bash", HERE / "down.sh", folder, "--purge"], timeout=120)
        shutil.rmtree(folder, ignore_errors=True)
        if before:
            os.environ["SLURM_CONF"] = before


@pytest.fixture(scope="session")
def lab():
    with cluster() as found:
        yield found


@pytest.fixture
def bare_lab(lab):
    """A second cluster, without accounting; for the time of one test it is the one that commands speak to."""
    with cluster(25, ACCT=0, NODES=2) as found:
        yield found


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """One MLflow database for all; the watchers bring it up to date."""
    folder = tmp_path_factory.mktemp("slurm")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    yield folder
    del os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture(autouse=True)
def _nobody_stays_behind():
    yield
    for process in studies.STARTED:
        process.kill()
    studies.STARTED.clear()
