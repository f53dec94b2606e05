"""What a job on a cluster asks for beyond the plain fields of `resources`: sbatch flags, a container, jobs of bases."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from scaling.fields import Float, Int, Part, brief

Flag = str | int | bool
# What the launcher itself decides: by these it finds, ends and requeues its jobs.
OWNED = (
    "array", "output", "error", "job-name", "signal", "requeue", "no-requeue", "dependency", "wckey", "open-mode",
    "wrap", "test-only", "parsable", "wait", "input",
)  # fmt: skip
SHORT = {
    "a": "array", "o": "output", "e": "error", "J": "job-name", "d": "dependency", "W": "wait", "i": "input",
    "A": "account", "c": "cpus-per-task", "C": "constraint", "G": "gpus", "L": "licenses", "m": "distribution",
    "M": "clusters", "n": "ntasks", "N": "nodes", "p": "partition", "q": "qos", "t": "time", "w": "nodelist",
    "x": "exclude",
}  # fmt: skip
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # a tab is none


def check_plain(value: Any, what: str = "") -> Any:
    """The value; raises ValueError where it, or anything in it, has a line break or another control character."""
    if isinstance(value, str) and (found := CONTROL.search(value)):
        raise ValueError(f"{what}{brief(value)} has the control character {found.group()!r}; leave it out")
    if isinstance(value, dict):
        for key, inner in value.items():
            check_plain(key, what)
            check_plain(inner, f"{what}{key}: ")
    elif isinstance(value, list | tuple):
        for inner in value:
            check_plain(inner, what)
    return value


def normal_flags(flags: dict[str, Flag]) -> dict[str, Flag]:
    """The flags by sbatch's own names, each once. Raises ValueError for one that the launcher decides."""
    normal: dict[str, Flag] = {}
    for given, value in flags.items():
        bare = given.strip().lstrip("-")
        name = SHORT.get(bare, bare.replace("_", "-").lower())
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"{brief(given)} is no name of an sbatch flag")
        if name in OWNED:
            raise ValueError(f"the launcher itself decides {name}; leave it out")
        if name in normal:
            raise ValueError(f"{name} is given twice, as {brief(given)} and under another spelling; keep one")
        normal[name] = value
    return normal


Flags = Annotated[dict[str, Flag], AfterValidator(normal_flags)]


class ContainerConfig(Part):
    """The image in which a run's processes work; the batch script and srun stay outside."""

    kind: Literal["pyxis", "apptainer"]
    image: str
    """A path, or what the tool takes in its place."""
    mounts: tuple[str, ...] = ()
    """Beside the study folder, as the tool writes them, e.g. `/scratch/models:/models`."""
    arguments: tuple[str, ...] = ()
    """Further arguments of srun (pyxis) or of `apptainer exec`, e.g. `[--rocm]`."""

    @field_validator("image")
    @classmethod
    def _a_path(cls, image: str) -> str:
        if not image:
            raise ValueError("an image wants a path")
        return image


class BaseJobConfig(Part):
    """The jobs of base models, of one core. null = as the runs; they ask for neither GPUs nor whole nodes."""

    cpus: Int = Field(default=1, ge=1)
    memory_gb: Float | None = Field(default=None, gt=0)
    """null = the cluster's default."""
    time_minutes: Int | None = Field(default=None, ge=1)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    sbatch: Flags | None = None
    """In place of the runs' flags; null = those, without what asks for GPUs, cores, memory, tasks or whole nodes."""

    @model_validator(mode="after")
    def _plain(self):
        check_plain(self.model_dump())
        return self
