"""The command line: made from the pipeline. Data goes to standard output, progress to standard error.

Exit codes: 0 done; 2 something is wrong with what was given, said in one line; 130 interrupted (run again to go on).
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import click

from zelo import __version__
from zelo.commands import (
    benching,
    benchmarking,
    comparing,
    exporting,
    judging,
    models,
    promoting,
    reasoning,
    reasoning_teaching,
    reasoning_writing,
    refining,
    serving,
    using,
    watching,
    working,
)
from zelo.commands.base import interrupted
from zelo.errors import ZeloError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, package_name="zelo")
def cli() -> None:
    """Queries and documents without labels into a reranker you can trust.

    zelo demo shows all of it in a few minutes. For your own documents: zelo new, then zelo run.
    """


for _command in (
    working.new,
    working.run,
    working.status,
    working.demo,
    judging.plan,
    judging.judge_command,
    judging.merge,
    judging.sql,
    judging.judges,
    using.show,
    using.rerank,
    using.scores,
    refining.refine,
    watching.watch,
    promoting.promote,
    promoting.rollback,
    reasoning.reasoning,
    serving.serve,
    benchmarking.benchmark,
    exporting.export_command,
    comparing.evaluate,
    comparing.latency,
    benching.bench,
    models.export_model,
    models.verify,
    models.optimize,
    models.log,
):
    cli.add_command(_command)

for _command in (
    reasoning.import_command,
    reasoning_writing.sample,
    reasoning.verify,
    reasoning_writing.edit,
    reasoning.checkout,
    reasoning.checkin,
    reasoning.analyze,
    reasoning_teaching.rate,
    reasoning_teaching.select,
    reasoning_teaching.export,
    reasoning_teaching.tune,
    reasoning.grade,
):
    reasoning.reasoning.add_command(_command)


def add_stages() -> None:
    """Add a command for every stage that has none of its own."""
    from zelo.pipeline import LINES, refined

    for line in LINES.values():
        for stage in (*line, *refined(line)):
            if stage.name not in cli.commands:
                cli.add_command(working.stage_command(stage.name, stage.summary))


def main() -> None:
    """Run the command line and exit."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Our matrices are small: a second BLAS thread gains nothing, its waiting costs a factor of ten on a busy machine, and the
    # last bits of a sum depend on the number of threads.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    interrupted.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _on_interrupt)
    add_stages()
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            click.echo("zelo: interrupted; the same command goes on from here", err=True)
            sys.exit(130)
        if isinstance(error, ZeloError):
            click.echo(f"zelo: {error}", err=True)
            sys.exit(2)
        if isinstance(error, click.ClickException):
            error.show()
            sys.exit(2)
        raise


def _on_interrupt(number: int, frame: object) -> None:
    interrupted.set()
    raise KeyboardInterrupt


def _is_interrupt(error: BaseException | None) -> bool:
    """Say whether Ctrl-C is behind it: while a compiled module starts, for example, it comes out as an ImportError."""
    while error is not None and not isinstance(error, click.Abort | KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None or interrupted.is_set()
