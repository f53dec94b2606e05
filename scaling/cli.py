"""The command line. Every command imports what it needs inside itself, so that `--help` answers at once.

Exit status: 0 done, 1 some work failed, 2 bad input, 130 interrupted. People's output, progress and logs go to
stderr or a terminal table; with --json one JSON document goes to stdout and nothing else does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The scaling-law laboratory for RL post-training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    pass


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A run file: a RunConfig in YAML.")],
    out: Annotated[Path, typer.Option(help="The run folder; the base model goes to DIR/artifacts.", metavar="DIR")],
) -> None:
    """Train one run in the foreground; called again it resumes, and does nothing once the run is done."""
    from scaling.config import load_config

    parsed = load_config(config)
    from scaling.trainer import train_run

    train_run(parsed, out, out / "artifacts")
    print(out / "curve.jsonl")


def main() -> None:
    """Run the app; turn every foreseen error into one line and an exit status."""
    from scaling.schema import InputError, did_you_mean

    debug = "--debug" in sys.argv[1:]
    # --debug is accepted anywhere on the line.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        status = app(arguments, prog_name="scaling", standalone_mode=False)
    except InputError as error:
        status = _complain(str(error), debug)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        if type(error).__name__ == "Abort":
            status = 130
        elif hasattr(error, "format_message"):  # a usage error: unknown command or option, wrong type, missing argument
            status = _complain(_usage(error, did_you_mean), debug)
        else:
            raise
    sys.exit(status or 0)


def _complain(message: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"scaling: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _usage(error, did_you_mean) -> str:
    """One line for a usage error: the command, what was given, what is legal, the nearest match."""
    context = getattr(error, "ctx", None)
    message = error.format_message() if type(error).__name__ != "NoArgsIsHelpError" else "give a command"
    if context is None:
        return message
    command = context.command
    names = list(getattr(command, "commands", {}))
    option = getattr(error, "option_name", None)
    if option is not None:
        legal = sorted({name for parameter in command.params for name in parameter.opts if name.startswith("--")})
        return f"{context.command_path} has no option {option}; it has {', '.join(legal)}.{did_you_mean(option, legal)}"
    if names:
        given = next((a for a in sys.argv[1:] if not a.startswith("-") and a not in context.command_path.split()), "")
        return (
            f"{context.command_path} has no command {given!r}; it has {', '.join(names)}.{did_you_mean(given, names)}"
        )
    return f"{context.command_path}: {message} See {context.command_path} --help."
