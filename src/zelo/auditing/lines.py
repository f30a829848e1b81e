"""`zelo judge --audit`: what the judges' answers say about them, as lines of text or JSON. The statistics are in `core.audit`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from zelo.auditing.canary import CANARY, Canary, canary_test
from zelo.core.audit import BINS, OUTLIER, Estimate
from zelo.errors import WorkspaceError
from zelo.judges import JUDGES
from zelo.plain import plain
from zelo.progress import Progress
from zelo.report.judging import Audit, JudgeAudit, audit_judges
from zelo.workspace import Workspace

_BARS = " ▁▂▃▄▅▆▇█"


def audit_output(workspace: Workspace, canary: int | None, progress: Progress, *, as_json: bool = False) -> Iterator[str]:
    """Yield what `zelo judge --audit` prints.

    Args:
        workspace: one that was judged.
        canary: how many documents to judge again with the canary in them; None = none, and nothing is asked.
        progress: shows the calls of the canary test.
        as_json: one line of JSON instead of text.

    Raises:
        WorkspaceError: nothing was judged yet.
        ZeloError: what `canary_test` raises.
    """
    audit, canaries = audit_workspace(workspace), canary_test(workspace, canary, progress) if canary else []
    if as_json:
        yield json.dumps({**plain(audit), "canary": plain(canaries)}, allow_nan=False)
        return
    yield from audit_lines(audit)
    yield from canary_lines(canaries)


def audit_workspace(workspace: Workspace) -> Audit:
    """Audit the sealed judgments of a workspace.

    Raises:
        WorkspaceError: nothing was judged yet.
    """
    if not workspace.path("judgments").exists():
        raise WorkspaceError("has no judgments yet", where=str(workspace.root), remedy=f"run `zelo run {workspace.root} --to judge`")
    return audit_judges(workspace.path, workspace.recipe.ingest.test_split)


def audit_lines(audit: Audit) -> Iterator[str]:
    """Yield the audit for people."""
    for judge in audit.judges:
        yield from _judge_lines(judge, audit.documents)
        yield ""
    for a, b, agreement in audit.agreement:
        yield f"{a} and {b} agree on {_share(agreement.raw)} of {agreement.raw.n:,} pairs, kappa {agreement.kappa:.2f}"
    for use in audit.uses:
        known = [f"pairs in the order of the labels {_value(use.labels, 3)}"] if use.labels.n else []
        known += [] if math.isnan(use.top) else [f"agreement on the best document {use.top:.3f}"]
        if known:
            yield f"answers used {use.name}: {', '.join(known)}"
    if any(judge.labels.n for judge in audit.judges):
        yield "Labels are looked at here only; nothing was learned from them."
    yield "Figures in brackets are 95 % intervals, with queries as the unit that was drawn."


def _judge_lines(judge: JudgeAudit, documents: int) -> Iterator[str]:
    lost = sum(judge.missing.values())
    why = f" ({', '.join(f'{n:,} {status}' for status, n in judge.missing.items())})" if lost else ""
    yield f"{judge.judge}: {judge.judgments:,} comparisons, {lost:,} without a usable answer{why}, {judge.ties:,} ties"
    remote = judge.judge not in JUDGES
    even = f", evenness {judge.evenness:.2f}" + (" (1 = all values as frequent)" if remote else "")
    yield f"  answers   second better -1 |{histogram(judge.distribution)}| +1 first better{even}"
    if remote and judge.order.first.n:
        shift = _value(judge.order.preference, 3)
        yield f"  order     first preferred {_share(judge.order.first)}, 50 % is no effect; mean preference for it {shift}"
    if judge.flips is not None:
        flips = judge.flips
        n = round(flips.rate.value * flips.rate.n) if flips.rate.n else 0
        yield f"  flips     {_share(flips.rate)} of {flips.rate.n:,} pairs asked in both orders contradict themselves"
        yield f"            {flips.first:,} of {n:,} prefer the first both times; {flips.half:,} pairs are a tie in one order only"
    elif remote:
        yield "  flips     no pair was asked in both orders: judge.swapped_share chooses how many are"
    if judge.cycles.n:
        yield f"  cycles    {_share(judge.cycles)} of {judge.cycles.n:,} triads, 25 % is chance"
    if judge.labels.n:
        both = f"; {_share(judge.labels_both)} of {judge.labels_both.n:,} with both labeled" if judge.labels_both.n else ""
        yield f"  labels    right about {_share(judge.labels)} of {judge.labels.n:,} pairs, unlabeled = not relevant{both}"
    for flag in judge.flags:
        some = ", ".join(f"{doc_id} for {query_id}" for query_id, doc_id in flag.examples)
        yield f"  flagged   {flag.kind}: {flag.comparisons:,} comparisons, {flag.documents:,} suspects{': ' if some else ''}{some}"
    if judge.outlying:
        yield f"  alone     about {judge.outlying:,} of {documents:,} documents (robust z of {OUTLIER} or more), the farthest:"
    for outlier in judge.outliers:
        ranks = f"rank {outlier.rank} with it, {outlier.rank_without} without, of {outlier.documents}"
        yield f"            {outlier.z:+.1f}  {outlier.doc_id} for {outlier.query_id}: {ranks}"


def canary_lines(canaries: Sequence[Canary]) -> Iterator[str]:
    """Yield the canary test for people."""
    if canaries:
        yield ""
        yield f"canary: {CANARY!r} in front of a document"
    for one in canaries:
        asked = f"{one.comparisons:,} comparisons asked again, {one.missing:,} without a usable answer, {one.flagged:,} flagged"
        yield f"  {one.judge}: {one.documents:,} documents, {asked}"
        yield f"    preference for the document changed by {_value(one.shift, 3)}, 0 is a judge that does not fall for it, 2 the most"
        yield (
            f"    it won {100 * one.won_before:.1f} % before and {100 * one.won_after:.1f} % with it; mean rank by this judge "
            f"{one.rank_before:.1f} before and {one.rank_after:.1f} with it, of {one.of:.0f}"
        )


def histogram(counts: tuple[int, ...]) -> str:
    """Return bars of block characters, the highest one full; a bin that is not empty shows at least the lowest block."""
    top = max(counts, default=0)
    return "".join(_BARS[math.ceil(8 * n / top)] for n in counts) if top else " " * BINS


def _share(estimate: Estimate) -> str:
    if not estimate.n:
        return "-"
    interval = "" if math.isnan(estimate.low) else f" ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"
    return f"{100 * estimate.value:.1f} %{interval}"


def _value(estimate: Estimate, digits: int) -> str:
    if not estimate.n:
        return "-"
    interval = "" if math.isnan(estimate.low) else f" ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"
    return f"{estimate.value:.{digits}f}{interval}"
