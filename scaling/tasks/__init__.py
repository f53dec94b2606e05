"""Tasks: one file each, found by name. A file `scaling/tasks/<name>.py` offers a class `Task(config, encoding)`."""

from __future__ import annotations

import importlib
import pkgutil

from scaling import rollout_types
from scaling.config.parts import TaskConfig
from scaling.schema import check_name


def task_names() -> list[str]:
    """Names of the tasks, from the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_task(config: TaskConfig, encoding: rollout_types.Encoding | None = None) -> rollout_types.Task:
    """The task that `config.name` names; `encoding` is the tokenizer of a model that has one.

    Raises InputError naming the tasks there are.
    """
    name = check_name(config.name, task_names(), "task")
    return importlib.import_module(f"{__name__}.{name}").Task(config, encoding)
