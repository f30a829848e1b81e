"""Commands about judges: what they will cost, asking them, what they said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zelo.commands.base import SET, WORKSPACE, changed, dict_of, open_workspace, run_stages, save

if TYPE_CHECKING:
    from zelo.judges.sql import Form


@click.command()
@click.argument("workspace", type=click.Path(path_type=Path), metavar="WORKSPACE_OR_RECIPE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@SET
def plan(workspace: Path, as_json: bool, settings: tuple[str, ...]) -> None:
    """Say what is left to judge, how many tokens and dollars and how long it will take. Asks and changes nothing.

    Best after zelo run --to pair, which costs nothing. --set shows what another recipe would take.

    With a recipe (its name, as in zelo plan paper, or a TOML file): calls, dollars, GPU-hours, CPU-hours and bytes of every stage, for a
    collection of the size that the recipe's section [plan] says.
    """
    from zelo import recipe as recipes
    from zelo.planning.prospect import plan_output
    from zelo.planning.scale_lines import recipe_output

    if not workspace.is_dir() and (str(workspace) in recipes.names() or workspace.suffix == ".toml"):
        for line in recipe_output(recipes.load(workspace).with_settings(dict_of(settings)), str(workspace), as_json=as_json):
            click.echo(line)
        return
    opened = open_workspace(workspace)
    for line in plan_output(opened, changed(opened.recipe, settings), as_json=as_json):
        click.echo(line)


@click.command("judge")
@WORKSPACE
@click.option("--force", is_flag=True, help="Run it even if it is done.")
@click.option("--shard", metavar="I/N", help="Judge only the I-th of N parts of the queries and seal nothing; then zelo merge.")
@click.option("--audit", is_flag=True, help="Judge nothing; say what the answers say about the judges.")
@click.option("--canary", metavar="K", type=click.IntRange(1), help="Audit, and judge K documents again that give the judge orders.")
@click.option("--json", "as_json", is_flag=True, help="The audit as one JSON object.")
@SET
def judge_command(workspace: Path, force: bool, shard: str | None, settings: tuple[str, ...], **auditing: Any) -> None:
    """Stage: every judge compares every pair.

    Several machines: give each a copy of a workspace that has run up to pair, and have each judge its own --shard. Bring the
    journals together with zelo merge; zelo run then finds everything answered. A budget is for one machine.

    --audit: distribution of the answers, order effect, flips, cycles, agreement with each other and with labels, texts that talk
    to the judge, documents about which one judge stands alone. It costs nothing; --canary costs K x pair.degree calls per judge.
    """
    if auditing["audit"] or auditing["canary"]:
        from zelo.auditing.lines import audit_output
        from zelo.progress import for_stream

        with for_stream() as shown:
            lines = list(audit_output(open_workspace(workspace), auditing["canary"], shown, as_json=auditing["as_json"]))
        for line in lines:
            click.echo(line)
        return
    if shard is None:
        run_stages(workspace, start="judge", stop="judge", force=("judge",) if force else (), settings=settings)
        return
    from zelo import progress
    from zelo.stages.judge import judge_shard

    opened = open_workspace(workspace)
    save(opened, changed(opened.recipe, settings) if settings else opened.recipe)
    with progress.for_stream() as shown:
        click.echo(judge_shard(opened, shard, shown))


@click.command()
@WORKSPACE
@click.argument("others", nargs=-1, required=True, type=click.Path(path_type=Path))
def merge(workspace: Path, others: tuple[Path, ...]) -> None:
    """Add what other machines judged: OTHERS are workspaces, or their judgments.sqlite.

    What both know stays once; merging again adds nothing. zelo run then asks only what nobody has answered.
    """
    from zelo.judges.merging import merge as merge_journals
    from zelo.stages.judge import JOURNAL

    opened = open_workspace(workspace)
    with opened.locked():
        for other in others:
            path = other / JOURNAL if other.is_dir() else other
            click.echo(f"{path}: {merge_journals(opened.root / JOURNAL, path):,} attempts added")


@click.command()
@WORKSPACE
@click.argument("statement")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print one JSON object per line.")
def sql(workspace: Path, statement: str, form: Form | None) -> None:
    """Ask the judges' journal: zelo sql WORKSPACE "select judge, count(*) from attempts group by judge".

    Views: attempts (every attempt, with names), answers (the one that counts of every question), judges (sums), reasonings
    (attempt, reasoning), batches. It only reads, and may be used while a run goes on. The sealed judgments, and everything else, are
    Parquet files.
    """
    from zelo.judges.sql import query
    from zelo.stages.judge import JOURNAL

    for line in query(open_workspace(workspace).root / JOURNAL, statement, form or "table"):
        click.echo(line)


@click.command()
def judges() -> None:
    """List the judges that an ensemble can be made of."""
    from zelo.judges import FORMS, JUDGES

    for name, about in [*((name, judge.about) for name, judge in JUDGES.items()), *FORMS.items()]:
        click.echo(f"{name:<32} {about}")
