"""The command line: the roof over the three packages. It names every command and imports one when it is called.

Exit status: 0 done, 1 some work failed, 2 bad input, 130 interrupted. People's output, progress and logs go to
stderr or a terminal table; with --json one JSON document goes to stdout and nothing else does.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from scaling.schema import InputError, did_you_mean

# Name: (module:function, first line of its docstring, which `scaling --help` shows without importing it).
COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("sweeps.commands:quickstart", "The whole path: train twelve small models, fit, report."),
    "run": ("scaling.commands:run", "Train one run in the foreground; called again it resumes."),
    "eval": ("scaling.commands:evaluate", "pass@k of a trained model on sets of problems, with its standard error."),
    "fit": ("analysis.commands:fit", "Fit a law to curves and print it with its intervals."),
    "forecast": ("analysis.commands:forecast", "Predict a run with a prediction interval, or score such forecasts."),
    "frontier": ("analysis.commands:frontier", "Best size for a budget, cost of a loss, how far to reuse prompts."),
    "compare": ("analysis.commands:compare", "Compare laws by points not seen, or algorithms by paired runs."),
    "asymptote": ("analysis.commands:asymptote", "The pass rate that training tends to, by the ScaleRL protocol."),
    "reproduce": ("analysis.commands:reproduce", "A published study's tables, ours beside theirs."),
    "report": ("analysis.commands:report", "Write the report: figures, tables and what is not identified."),
    "laws": ("analysis.commands:laws", "List the laws that `scaling fit --law` knows."),
    "models": ("scaling.commands:models", "List the models that `model:` may name, made here or published."),
}  # fmt: skip
SWEEP: dict[str, tuple[str, str]] = {
    "plan": ("sweeps.commands:plan", "Print the runs of a study: what exists, what is missing, what it will cost."),
    "launch": ("sweeps.commands:launch", "Run what is missing, on this machine or on SLURM."),
    "status": ("sweeps.commands:status", "Print where every run stands."),
    "logs": ("sweeps.commands:logs", "Print the log of one run."),
    "verify": ("sweeps.commands:verify", "Name every run whose record is whole, and every one that is not and why."),
    "repair": ("sweeps.commands:repair", "Put damaged runs back from what their folders still hold."),
    "retry": ("sweeps.commands:retry", "Let the next launch try failed runs again."),
    "cancel": ("sweeps.commands:cancel", "End the SLURM jobs of this study, and no others."),
    "mlflow": ("sweeps.commands:mlflow", "Bring MLflow up to date with the run folders; --serve shows them."),
}  # fmt: skip


class LazyGroup(TyperGroup):
    """Commands by name, each imported when it is called; help shows their first lines from the table."""

    table: ClassVar[dict[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self.table, *self.commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.table:
            return super().get_command(ctx, cmd_name)
        return TyperCommand(cmd_name, help=self.table[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name, self.table[name][0]) if name in self.table else command, rest


class Commands(LazyGroup):
    table = COMMANDS


class SweepCommands(LazyGroup):
    table = SWEEP


def load(name: str, place: str) -> Any:
    """The command behind `module:function`."""
    module, _, function = place.partition(":")
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(getattr(importlib.import_module(module), function))
    return get_command(single)


app = typer.Typer(
    cls=Commands, help="The scaling-law laboratory for RL post-training.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
sweep = typer.Typer(cls=SweepCommands, help="Plan, launch and watch a study: a grid of runs.", no_args_is_help=True)
app.add_typer(sweep, name="sweep")


@sweep.callback()
def _sweep() -> None:
    pass


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    pass


def main() -> None:
    """Run the app; turn every foreseen error into one line and an exit status."""
    debug = "--debug" in sys.argv[1:]
    # --debug is accepted anywhere on the line.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        status = app(arguments, prog_name="scaling", standalone_mode=False)
    except InputError as error:
        status = complain(str(error), debug)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        if type(error).__name__ == "Abort":
            status = 130
        elif hasattr(error, "format_message"):  # a usage error: unknown command or option, wrong type, missing argument
            status = complain(usage(error), debug)
        else:
            raise
    sys.exit(status or 0)


def complain(message: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"scaling: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def usage(error: Any) -> str:
    """One line for a usage error: the command, what was given, what is legal, the nearest match."""
    context = getattr(error, "ctx", None)
    message = error.format_message() if type(error).__name__ != "NoArgsIsHelpError" else "give a command"
    if context is None:
        return message
    command = context.command
    names = command.list_commands(context) if isinstance(command, TyperGroup) else []
    option = getattr(error, "option_name", None)
    if option is not None:
        legal = sorted({name for parameter in command.params for name in parameter.opts if name.startswith("--")})
        return f"{context.command_path} has no option {option}; it has {', '.join(legal)}.{did_you_mean(option, legal)}"
    if names:
        word = next((a for a in sys.argv[1:] if not a.startswith("-") and a not in context.command_path.split()), "")
        if not word:
            return f"{context.command_path}: give a command; it has {', '.join(names)}."
        return f"{context.command_path} has no command {word!r}; it has {', '.join(names)}.{did_you_mean(word, names)}"
    return f"{context.command_path}: {message}{given(error)} See {context.command_path} --help."


def given(error: Any) -> str:
    """` (given: '0').` for an option whose value is not legal: the message itself tells only its name."""
    for name in getattr(getattr(error, "param", None), "opts", []):
        for index, word in enumerate(sys.argv):
            if word == name and index + 1 < len(sys.argv):
                return f" (given: {sys.argv[index + 1]!r})."
            if word.startswith(f"{name}="):
                return f" (given: {word.removeprefix(f'{name}=')!r})."
    return ""
