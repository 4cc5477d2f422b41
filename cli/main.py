"""The ``hdml`` command: registers what the other modules of cli define, and turns failures into sentences."""

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli import auditing, comparing, demo, doctor, encoders, galleries, lens, serving, training, upkeep
from indexing.errors import HdmlError

INTERRUPTED = 130  # what shells give a program that Ctrl-C ended
_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
_UNUSABLE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_DISK_FULL = "the disk is full; free some space and run the command again, what was finished stays"


@contextmanager
def sentences() -> Iterator[None]:
    """Show failures of the user's world as one sentence on standard error and exit; all others keep their traceback."""
    try:
        yield
    except HdmlError as error:
        raise _failed(str(error)) from error
    except OSError as error:
        if error.errno in _DISK_FULL_ERRORS:
            raise _failed(f"{error.filename}: {_DISK_FULL}" if error.filename else _DISK_FULL) from error
        if error.errno in _UNUSABLE_ERRORS and error.filename:
            sentence = f"{error.filename} cannot be used: {error.strerror}; change its permissions or choose another place"
            raise _failed(sentence) from error
        raise
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            raise
        raise _failed(_DISK_FULL) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from error


def _failed(sentence: str) -> typer.Exit:
    typer.echo(f"error: {sentence}", err=True)
    return typer.Exit(1)


class SentenceGroup(TyperGroup):
    """The group of all commands, each of which runs inside ``sentences``."""

    def invoke(self, ctx: Any) -> Any:
        with sentences():
            return super().invoke(ctx)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hdml {version('hdml')}")
        raise typer.Exit


app = typer.Typer(
    name="hdml",
    cls=SentenceGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Example: hdml train photos/, hdml index gallery/, hdml search query.jpg, hdml serve",
)


@app.callback()
def start(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """From a folder of labelled photos to a visual search engine of measured quality."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)


app.command("train")(training.train)
app.command("export")(training.export)
app.command("curves")(training.curves)
app.command("eval")(training.evaluate)
app.add_typer(encoders.encoders, name="encoder")
app.command("compare")(comparing.compare)
app.command("index")(galleries.index)
app.command("search")(galleries.search)
app.command("audit")(auditing.audit)
app.command("hardness")(lens.hardness)
app.command("list")(upkeep.list_all)
app.command("info")(upkeep.info)
app.command("pack")(upkeep.pack)
app.command("rm")(upkeep.remove)
app.command("gc")(upkeep.collect)
app.command("serve")(serving.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command that the process's arguments name."""
    app()
