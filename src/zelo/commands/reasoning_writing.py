"""`zelo reasoning sample` and `edit`: have language models write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zelo.commands.reasoning import FOLDER, SOURCE, STAGE, chosen, opened
from zelo.errors import InputError

if TYPE_CHECKING:
    from zelo.reasoning.writing import Bill, Desk, Writer

_MODEL = (
    click.option(
        "--model",
        required=True,
        help="Who writes: openai:MODEL, http://localhost:8080/v1#MODEL, ... (`zelo judges` has the forms), or local:FOLDER.",
    ),
    click.option("--max-tokens", type=click.IntRange(1), default=4096, show_default=True, help="Of one text."),
    click.option("--temperature", type=click.FloatRange(0, 2), default=0.7, show_default=True),
    click.option("--concurrency", type=click.IntRange(1), default=32, show_default=True, help="Most calls at once."),
    click.option("--timeout", type=click.FloatRange(0.1), default=600.0, show_default=True, help="Seconds for one call."),
    click.option("--retries", type=click.IntRange(0), default=5, show_default=True, help="More attempts after a failed call."),
    click.option("--input-price", type=click.FloatRange(0), default=0.0, help="US dollars per million tokens read."),
    click.option("--output-price", type=click.FloatRange(0), default=0.0, help="US dollars per million tokens written."),
    click.option("--budget", type=click.FloatRange(0), default=0.0, help="Stop before this folder's texts cost more US dollars."),
    click.option("--dry-run", is_flag=True, help="Ask nothing; say how much there is to write and what it may cost."),
)


def writes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options about the model that writes."""
    for option in reversed(_MODEL):
        command = option(command)
    return command


def desk_for(journal: Path, prompt_name: str, options: dict[str, Any]) -> tuple[Desk, Writer]:
    """Return the desk of a model, by the options of `writes` (and `waits`, `force`), and its writer.

    Raises:
        RecipeError: the model's name has no known form.
        InputError: a budget without prices.
        JudgeError: its key is missing.
    """
    from zelo.judges.running import Limits
    from zelo.language_models.names import Unopened, parse_name
    from zelo.reasoning.local import open_writer_model
    from zelo.reasoning.writing import Desk, Knobs, Writer
    from zelo.recipe import Model

    if options["budget"] and not (options["input_price"] and options["output_price"]):
        raise InputError("a budget needs prices", where="--budget", remedy="give --input-price and --output-price")
    knobs = Knobs(options["max_tokens"], options["temperature"], options.get("waits", 0), options.get("force", False))
    facts = Model(input_price=options["input_price"], output_price=options["output_price"], concurrency=options["concurrency"])
    name = options["model"]
    if options["dry_run"] and not name.startswith("local:"):
        parse_name(name)
    model = Unopened(name) if options["dry_run"] else open_writer_model(name, options["timeout"])
    writer = Writer(model, knobs, f"{prompt_name} {knobs.digest()}", facts)
    return Desk(journal, writer, Limits(options["retries"], options["timeout"], options["budget"] or None)), writer


def short_name(model: str) -> str:
    """Return a model's name without where it is."""
    return model.rpartition("#")[2] if "#" in model else Path(model.partition(":")[2]).name


@click.command()
@FOLDER
@writes
@click.option("--prompt", default="", help="plain, long, direct, examples, or a TOML file; long by default.")
@click.option("-k", "--samples", type=click.IntRange(1), default=4, show_default=True, help="Traces per problem.")
@click.option("--source", default="", metavar="NAME", help="Name of the traces; made from model and prompt by default.")
@click.option("--guide", type=click.Path(path_type=Path), help="Write step by step, by plans from this file of `analyze --guide`.")
@click.option("--examples", type=click.Path(path_type=Path), help="Put the selected traces of this folder before the problem.")
@click.option("--shots", type=click.IntRange(1), default=8, show_default=True, help="Most examples.")
@click.option("--window", type=click.IntRange(1), default=32768, show_default=True, help="Tokens the model reads and writes in all.")
@click.option(
    "--waits", type=click.IntRange(0), default=0, show_default=True, help='Budget forcing: take back the end so often, with "Wait".'
)
@click.option("--force", is_flag=True, help="Make thoughts that are out of tokens end in an answer.")
@click.option("--problems", "most", type=click.IntRange(1), help="Only the first so many problems.")
@click.option("--seed", default=0, show_default=True, help="Of guided plans.")
def sample(folder: Path, **options: Any) -> None:
    """Have a language model write k traces per problem, verify them, and add them to stage 1.

    What the journal has is not asked again: after Ctrl-C or a failure the same command goes on. A text that is out of tokens counts
    as written. --waits and --force are knobs of evaluation: they change what a grade means, so give them a --source of their own.
    """
    from zelo.progress import for_stream
    from zelo.reasoning.sampling import asks_for, refuse_mixture
    from zelo.reasoning.sampling import sample as write
    from zelo.reasoning.verify import verify

    state = opened(folder)
    problems = state.problems()
    asked = list(problems.values())[: options["most"]]
    way, prompt_name, kind = way_of(asked, options)
    desk, writer = desk_for(state.journal, prompt_name, options)
    waits = f"/wait{options['waits']}" if options["waits"] else ""
    source = options["source"] or f"{short_name(options['model'])}/{kind}{waits}{'/forced' if options['force'] else ''}"
    if any(c.isspace() for c in source):
        raise InputError(f"{source!r} holds white space", where="--source", remedy="use - or / instead")
    asks = asks_for(asked, options["samples"], way, temperature=options["temperature"])
    with state.locked():
        refuse_mixture(state, source, writer.prompt_id)
        bill = desk.bill(asks)
        say(bill, options["dry_run"])
        if options["dry_run"]:
            return
        with for_stream() as shown:
            traces = write(desk, writer, asks, source, shown)
        marked = list(verify(traces, problems))
        state.merge_traces(1, marked)
    right, known = sum(t.correct is True for t in marked), sum(t.correct is not None for t in marked)
    cost = sum(t.cost for t in marked)
    click.echo(
        f"{source}: {len(marked):,} of {len(asks):,} traces, {right:,} right of {known:,} verified{f', ${cost:.2f}' if cost else ''}"
    )
    later = " --stage 1" if state.last_stage() > 1 else ""  # where others were edited since: grades are of the last stage
    click.echo(f"next: zelo reasoning grade {folder}{later}")


def way_of(asked: list[Any], options: dict[str, Any]) -> tuple[Any, str, str]:
    """Return how problems are asked, the prompt's name with its digest, and a word for the source's name."""
    from zelo.reasoning import guidance, in_context
    from zelo.reasoning.prompt_files import load_prompt
    from zelo.reasoning.sampling import plain_ask

    if options["guide"] is not None:
        prompt = load_prompt(options["prompt"] or "step", "guide")
        guide = guidance.read_guide(options["guide"])
        return guidance.guided_ask(prompt, guide, options["seed"]), prompt.name, f"{prompt.id}-guided"
    if options["examples"] is not None:
        prompt = load_prompt(options["prompt"] or "examples", "solve")
        shown = opened(options["examples"])
        rows, known = shown.selected()[: options["shots"]], shown.problems()
        text, count = in_context.fitted(prompt, rows, known, asked, options["window"], options["max_tokens"])
        if count < len(rows):
            click.echo(f"{count} of {len(rows)} examples fit into the window", err=True)
        return plain_ask(prompt, text), prompt.name, f"{count}-shot"
    prompt = load_prompt(options["prompt"] or "long", "solve")
    return plain_ask(prompt), prompt.name, prompt.id


def say(bill: Bill, dry: bool) -> None:
    """Say what there is to write: on standard output if that is all that was asked."""
    click.echo(bill.line(), err=not dry)


@click.command()
@FOLDER
@writes
@click.option("--passes", default="complete,expand,reflect,clean", show_default=True, help="Prompts, one after the other.")
@STAGE
@SOURCE
@click.option("--right", is_flag=True, help="Only traces that are right.")
def edit(folder: Path, passes: str, stage: int | None, sources: tuple[str, ...], right: bool, **options: Any) -> None:
    """Have a language model edit traces in passes; every pass is a stage of its own, verified.

    The editor sees problem and trace, not the answer. An edit that makes a right trace wrong is not taken over; its note says so.
    Given again, the command begins with the stage that it began with, and asks only what the journal does not have.
    """
    from zelo.progress import for_stream
    from zelo.reasoning.edit import asks_for, base_stage, refuse_others
    from zelo.reasoning.edit import edit as run_pass
    from zelo.reasoning.prompt_files import load_prompt

    state = opened(folder)
    prompts = [load_prompt(name.strip(), "edit") for name in passes.split(",") if name.strip()]
    if not prompts:
        raise InputError("no passes", where="--passes", remedy="such as complete,expand,reflect,clean")
    stage = stage or base_stage(state, prompts)
    names = set(chosen(state, stage, sources))
    with state.locked():
        problems = state.problems()
        rows = [t for t in state.traces(stage) if t.source in names and (t.correct is True or not right)]
        if not rows:
            raise InputError("there are no traces to edit", where=str(folder), remedy="verify them, or leave --right out")
        for number, prompt in enumerate(prompts, 1):
            refuse_others(state, stage + number, prompt)
        for prompt in prompts:
            desk, writer = desk_for(state.journal, prompt.name, options)
            bill = desk.bill(asks_for(prompt, rows, problems))
            say(bill, options["dry_run"])
            if options["dry_run"]:
                click.echo(f"that is the pass {prompt.id}; the others read what it writes")
                return
            with for_stream() as shown:
                rows = run_pass(desk, prompt, writer.prompt_id, rows, problems, shown)
            stage += 1
            state.merge_traces(stage, rows)
            kept = sum("left as it was" in t.note for t in rows)
            good = sum(t.correct is True for t in rows)
            words = sum(len(t.reasoning.split()) for t in rows) / len(rows)
            click.echo(
                f"stage {stage} ({prompt.id}): {len(rows):,} traces, {good:,} right, {kept:,} left as they were, {words:,.0f} words each"
            )
