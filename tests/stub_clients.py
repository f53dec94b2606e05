"""Stand-ins for SLURM's clients, for tests that ask them."""

import contextlib
import os
import stat

from sweeps import clients, cluster
from sweeps.executors import slurm


@contextlib.contextmanager
def on_the_path(tmp_path, monkeypatch, texts):
    """A folder of these programs, by name, before all others of the PATH; nobody waits. Programs find it as $STUB."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("STUB", str(folder))
    monkeypatch.setattr(cluster, "SECOND_LOOK", 0.0)
    monkeypatch.setattr(clients, "PAUSE", 0.0)
    monkeypatch.setattr(slurm, "LOOKS", ((0.0, 0.0),) * 3)
    clients._settings.clear()
    clients.time_limit.cache_clear()
    yield folder
    clients._settings.clear()
    clients.time_limit.cache_clear()
