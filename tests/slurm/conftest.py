"""A real one-host SLURM for the tests of this folder: root and Debian are needed, elsewhere they are skipped.

SLURM_TESTS=1 turns the skip into a failure.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODES = 3


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

    def node_down(self, node: str) -> None:
        """The node's daemon dies and the node is declared down; its processes go on, as they do on a lost network."""
        os.kill(int((self.folder / "run" / f"slurmd.{node}.pid").read_text()), 9)
        self.call(f"scontrol update nodename={node} state=down reason=test")

    def node_up(self, node: str) -> None:
        self.call(f"slurmd -N {node} -f {self.folder}/etc/slurm.conf")
        self.try_call(f"scontrol update nodename={node} state=resume")


@pytest.fixture(scope="session")
def lab():
    """A cluster of three nodes with accounting, partitions `main` and `low`; `main` pre-empts `low`."""
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
    try:
        settings = {"SLURMLAB_NODES": str(NODES), "SLURMLAB_CPUS": "2", "SLURMLAB_SIGNAL": "1"}
        up = subprocess.run(
            ["bash", HERE / "up.sh", folder], env={**os.environ, **settings}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=(folder / "up.log").open("w"), timeout=600,
        )  # fmt: skip
        assert up.returncode == 0, (folder / "up.log").read_text()
        os.environ["SLURM_CONF"] = f"{folder}/etc/slurm.conf"
        yield Lab(folder)
    finally:
        subprocess.run(["bash", HERE / "down.sh", folder, "--purge"], timeout=120)
        shutil.rmtree(folder, ignore_errors=True)
