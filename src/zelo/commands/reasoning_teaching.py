"""`zelo reasoning rate`, `select`, `export` and `tune`: from traces to what is taught."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zelo.commands.reasoning import FOLDER, SOURCE, STAGE, chosen, opened
from zelo.commands.reasoning_writing import desk_for, say, writes
from zelo.errors import InputError

if TYPE_CHECKING:
    from zelo.reasoning.controls import Control
    from zelo.reasoning.export import Form
    from zelo.reasoning.folder import Folder
    from zelo.reasoning.prompt_files import Prompt
    from zelo.reasoning.tune import Tuning
    from zelo.types import Trace

_CONTROL = click.option(
    "--control",
    type=click.Choice(["direct", "conclusion", "skipped", "shuffled", "wrong", "filler"]),
    help="Teach not the traces but what is left when one thing is taken away.",
)
_SEPARATOR = click.option("--separator", default="", help="What stands between the steps of traces, for --control; lines by default.")


@click.command()
@FOLDER
@writes
@STAGE
@SOURCE
@click.option("--degree", type=click.IntRange(2), default=8, show_default=True, help="Comparisons per trace, even.")
@click.option("-k", "--samples", type=click.IntRange(1), default=1, show_default=True, help="Votes per comparison.")
@click.option("--prompt", default="plain", show_default=True, help="How the judge is asked.")
@click.option("--seed", default=0, show_default=True, help="Of the pairs.")
def rate(
    folder: Path, stage: int | None, sources: tuple[str, ...], degree: int, samples: int, prompt: str, seed: int, **options: Any
) -> None:
    """Have a language model compare right traces in pairs, and fit a rating of each with its error: for select --rule top.

    Pairs are on random cycles, each trace first in half of its comparisons. Ratings are written to ratings.jsonl.
    """
    from zelo.progress import for_stream
    from zelo.reasoning import rating
    from zelo.reasoning.prompt_files import load_prompt
    from zelo.reasoning.sampling import asks_for, plain_ask
    from zelo.reasoning.sampling import sample as write

    state = opened(folder)
    names, problems = set(chosen(state, stage, sources)), state.problems()
    traces = [t for t in state.traces(stage) if t.source in names and t.correct is True]
    asked, pairs = rating.comparisons(traces, problems, degree, seed)
    words = load_prompt(prompt, "solve")
    desk, writer = desk_for(state.journal, words.name, options)
    asks = asks_for(asked, samples, plain_ask(words), temperature=options["temperature"])
    with state.locked():
        say(desk.bill(asks), options["dry_run"])
        if options["dry_run"]:
            return
        with for_stream() as shown:
            answers = write(desk, writer, asks, "judge", shown)
        found = rating.rate(traces, pairs, answers, asked)
        rating.write_ratings(state.root / "ratings.jsonl", found, traces)
    for one in sorted(found, key=lambda r: -r.score)[:5]:
        click.echo(f"{one.score:+.2f} +- {one.stderr:.2f}  {one.key[0]}  {one.key[1]} {one.key[2]}")
    votes = sum(one.degree for one in found) // 2
    said = f"{votes:,} comparisons" + (f" ({len(pairs) - votes:,} more had no usable answer)" if votes < len(pairs) else "")
    click.echo(f"{len(found):,} traces rated by {said}; next: zelo reasoning select {folder} --rule top")


@click.command()
@FOLDER
@click.option("-n", "--count", type=click.IntRange(1), default=20, show_default=True, help="How many traces.")
@click.option(
    "--rule",
    type=click.Choice(["diverse", "random", "longest", "s1", "top"]),
    default="diverse",
    show_default=True,
    help="diverse: spread over tiers, lengths and topics; the others are baselines.",
)
@STAGE
@SOURCE
@click.option("--tiers", default="", metavar="TIER=SHARE,...", help="Shares of tiers, e.g. medium=2,hard=1; those that are there, alike.")
@click.option("--words", default="", metavar="LEAST-MOST", help="Lengths that are wanted, e.g. 100-2000.")
@click.option("--reference", metavar="NAME", help="The source whose pass rates say how hard problems are; all by default.")
@click.option("--unverified", is_flag=True, help="Also traces that are not known to be right.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@click.option("--vectors", type=click.Choice(["words", "model"]), default="words", show_default=True, help="What distances are of.")
def select(folder: Path, stage: int | None, sources: tuple[str, ...], **options: Any) -> None:
    """Choose the few traces to teach with, one per problem, into selected.jsonl. Problems of the evaluation set are left out.

    Which rule teaches best is not known: select with several seeds and rules, and grade what each of them taught.
    """
    from zelo.reasoning import select as selecting
    from zelo.reasoning.analyze import analysis_lines, analyze, difficulties_of
    from zelo.reasoning.hygiene import all_leaks, contaminated
    from zelo.reasoning.rating import read_ratings

    state = opened(folder)
    least, most = _words(options["words"])
    choice = selecting.Choice(
        options["count"], options["rule"], _tiers(options["tiers"]), least, most, options["unverified"], options["seed"], options["vectors"]
    )
    with state.locked():
        problems, names = state.problems(), set(chosen(state, stage, sources))
        evaluation = state.evaluation() or []
        known = {o.problem_id for o in contaminated(problems.values(), evaluation)}
        traces = [t for t in state.traces(stage) if t.source in names]
        leaking = {t.key for t, _ in all_leaks(traces, problems)}
        clean = [t for t in traces if t.key not in leaking]
        hard = difficulties_of(state, problems, options["reference"])
        ratings = read_ratings(state.root / "ratings.jsonl", traces)
        found = selecting.select(clean, problems, hard, choice, ratings, known)
        state.write_selected(found)
    if known:
        click.echo(f"left out: {len(known):,} problems that share text with the evaluation set", err=True)
    if choice.rule == "top" and (unrated := sum(t.correct is True and t.key not in ratings for t in clean)):
        click.echo(f"left out: {unrated:,} right traces without a rating of their present text; zelo reasoning rate {folder}", err=True)
    if leaking:
        click.echo(f"left out: {len(leaking):,} traces that show that the answer was known", err=True)
    for line in analysis_lines(analyze(f"selected by {choice.rule}", found, problems, hard)):
        click.echo(line)
    if len(found) < choice.count:
        click.echo(f"only {len(found):,} of {choice.count:,}: so many problems have a trace that can be chosen", err=True)
    click.echo(f"next: zelo reasoning tune {folder} --base MODEL --out FOLDER, or sample --examples {folder}")


def _words(said: str) -> tuple[int, int]:
    low, dash, high = said.partition("-")
    if not said:
        return 0, 0
    if not dash or not (low.isdigit() and (high.isdigit() or not high)):
        raise InputError(f"{said!r} is no range of words", where="--words", remedy="write LEAST-MOST, such as 100-2000 or 100-")
    return int(low), int(high or 0)


def _tiers(said: str) -> dict[str, float]:
    found = {}
    for part in filter(None, said.split(",")):
        name, equals, share = part.partition("=")
        try:
            found[name.strip()] = float(share) if equals else 1.0
        except ValueError:
            raise InputError(f"{share!r} is no share", where="--tiers", remedy="write TIER=NUMBER,TIER=NUMBER") from None
    return found


def taught(state: Folder, name: Control | None, separator: str, seed: int) -> list[Trace]:
    """Return the selected traces, or a control made of them."""
    rows = state.selected()
    if name is None:
        return rows
    from zelo.reasoning.controls import control

    return control(name, rows, state.problems(), seed, separator)


@click.command()
@FOLDER
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--form",
    type=click.Choice(["messages", "prompt-completion", "sharegpt", "alpaca", "stages"]),
    default="messages",
    show_default=True,
    help="For which trainer; stages: all traces of all stages, to be released.",
)
@click.option("--prompt", default="plain", show_default=True, help="How problems are asked.")
@_CONTROL
@_SEPARATOR
def export(folder: Path, file: Path, form: Form, prompt: str, control: Control | None, separator: str) -> None:
    """Write the selected traces, or a control, as JSON Lines for other trainers."""
    from zelo.reasoning import export as exporting
    from zelo.reasoning.prompt_files import load_prompt

    state = opened(folder)
    rows = [t for s in state.stages() for t in state.traces(s)] if form == "stages" else taught(state, control, separator, 0)
    count = exporting.write(file, form, rows, state.problems(), load_prompt(prompt, "solve"))
    click.echo(f"{count:,} rows in {file}")


def _with_recipe(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """Take the options that are not given from a recipe."""
    if name:
        from zelo.reasoning.tune_recipes import load_recipe

        context.default_map = {**(context.default_map or {}), **load_recipe(name).options}
    return name


@click.command()
@FOLDER
@click.option(
    "--recipe",
    default="",
    is_eager=True,
    callback=_with_recipe,
    metavar="NAME",
    help="Options from a TOML file or a recipe of zelo: twenty-32b, twenty-1.7b, twenty-0.5b; those given here come before.",
)
@click.option("--base", default="", help="Name or folder of the causal language model to be taught; needed, here or in a recipe.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the tuned model goes; --plan needs none.")
@click.option("--prompt", default="plain", show_default=True, help="How problems are asked; ask the tuned model with the same.")
@click.option("--lora-rank", type=click.IntRange(0), default=0, show_default=True, help="Of adapters; 0 = all weights.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="1e-5; with adapters 1e-4.")
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Passes over the traces.")
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Traces per step.")
@click.option("--max-tokens", type=click.IntRange(2), default=32768, show_default=True, help="Of a trace with its prompt.")
@click.option(
    "--token-budget", type=click.IntRange(0), default=0, help="Padded tokens of a forward pass: less memory; 0 = what suits the device."
)
@click.option("--gradient-checkpointing", is_flag=True, help="Less memory, a third more work.")
@click.option("--seed", default=0, show_default=True)
@_CONTROL
@_SEPARATOR
@click.option("--plan", "planned", is_flag=True, help="Train nothing; say what memory and time it takes.")
@click.option(
    "--peak",
    type=click.FloatRange(0, min_open=True),
    default=989e12,
    help="Of --plan: operations per second of the device in bfloat16; an H100 or H200 by default.",
)
@click.option("--dollars-per-hour", type=click.FloatRange(0), default=0.0, help="Of --plan: what the device costs.")
def tune(folder: Path, base: str, out: Path | None, control: Control | None, separator: str, **options: Any) -> None:
    """Fine-tune a model lightly on the selected traces, or on a control made of them.

    Whether it reasons better is for sample --model local:OUT and grade --baseline to say. A killed training goes on where it was.
    """
    from zelo.progress import for_stream
    from zelo.reasoning.prompt_files import load_prompt
    from zelo.reasoning.tune import Tuning
    from zelo.reasoning.tune import tune as train

    if not base:
        raise InputError("there is no model to teach", where="--base", remedy="name one, or a --recipe that does")
    state = opened(folder)
    rate = options["learning_rate"] or (1e-4 if options["lora_rank"] else 1e-5)
    names = ("epochs", "batch_size", "lora_rank", "max_tokens", "token_budget", "gradient_checkpointing", "seed")
    tuning = replace(Tuning(learning_rate=rate), **{name: options[name] for name in names})
    prompt = load_prompt(options["prompt"], "solve")
    if options["planned"]:
        for line in plan_lines(state, control, separator, prompt, base, tuning, options):
            click.echo(line)
        return
    rows = taught(state, control, separator, options["seed"])
    if out is None:
        raise InputError("there is no folder for the tuned model", where="--out", remedy="name a new one, or --plan")
    if out.exists() and any(out.iterdir()):
        raise InputError("the folder is not empty", where=str(out), remedy="name a new one with --out")
    work = state.root / ".tuning" / out.name
    with state.locked(), for_stream() as shown:
        report = train(rows, state.problems(), prompt, base, tuning, out, work, shown.task("tuning"))
    shutil.rmtree(work, ignore_errors=True)
    figures = f"{report.steps:,} steps, {report.tokens:,} tokens, {report.seconds:,.0f} s, loss {report.loss:.3f} nats per token"
    click.echo(f"{out}: {len(rows)} traces, {figures}")
    click.echo(f"next: zelo reasoning sample EVALUATION --model local:{out} --prompt {options['prompt']}, then grade --baseline")


def plan_lines(
    state: Folder, control: Control | None, separator: str, prompt: Prompt, base: str, tuning: Tuning, options: dict[str, Any]
) -> list[str]:
    """Return what a tuning will take on a GPU. Tokens are estimated, bytes / 2.5: no more than the base's config.json is needed.

    What is not there yet, a selection or the base's folder, is as the recipe says.
    """
    from zelo.reasoning import tune_plan
    from zelo.reasoning.in_context import tokens_of
    from zelo.reasoning.tune_recipes import load_recipe
    from zelo.rerankers.scorer import GPU_TOKENS

    recipe = load_recipe(options["recipe"]) if options["recipe"] else None
    known = recipe is not None and recipe.config and base == recipe.options.get("base") and not Path(base).expanduser().is_dir()
    shape = tune_plan.shape_from(recipe.config, base) if recipe and known else tune_plan.shape_of(tune_plan.folder_of(base))
    if recipe and recipe.traces and not state.has_selected():
        lengths, whose = [recipe.tokens] * recipe.traces, "the recipe's, since nothing is selected"
    else:
        problems, whose = state.problems(), "bytes / 2.5"
        rows = taught(state, control, separator, options["seed"])
        lengths = [tokens_of(problems[t.problem_id].prompt + prompt.system + prompt.user + t.reasoning) for t in rows]
    found = tune_plan.plan(shape, lengths, tuning, peak=options["peak"], budget=tuning.token_budget or GPU_TOKENS)
    about = f"{len(lengths)} traces, at most {max(lengths):,} tokens each ({whose}), {tuning.epochs} passes"
    return [about, *found.lines(options["dollars_per_hour"])]
