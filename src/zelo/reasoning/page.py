"""An analysis as one HTML page with plots: bars drawn by the browser, no script, no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from zelo.errors import InputError
from zelo.reasoning.analyze import Analysis, Overview, analysis_lines
from zelo.reasoning.behavior import BEHAVIORS
from zelo.reasoning.rates import BINS

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
h2 { margin-top: 2.5rem } pre { overflow-x: auto } table { border-collapse: collapse; margin: 0.5rem 0 1rem }
th { text-align: left; font-weight: 500; padding-right: 1rem } td { padding: 1px 4px }
td.bar { width: 24rem } td.bar div { background: #3d7ea6; height: 1rem; min-width: 1px } td.cell { text-align: right; padding: 4px 10px }
.plots { display: flex; flex-wrap: wrap; gap: 0 3rem }
"""


def write_page(path: Path, analyses: Sequence[Analysis], overview: Overview | None = None) -> None:
    """Write the page; `overview` comes first.

    Raises:
        InputError: it cannot be written.
    """
    parts = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Reasoning traces</title><style>{_STYLE}</style>']
    parts.append("<h1>Reasoning traces</h1><p>Measured properties. None of them is a merit by itself.</p>")
    if overview is not None:
        parts += ["<h2>Problems</h2>", f"<pre>{html.escape(chr(10).join(overview.lines()))}</pre>", '<div class="plots">']
        parts.append(_bars("Problems by difficulty", {name: float(n) for name, n in overview.tiers.items()}, "{:.0f}"))
        if overview.rates is not None:
            bins = {f"{i / BINS:g} to {(i + 1) / BINS:g}": float(n) for i, n in enumerate(overview.rates.bins)}
            parts.append(_bars("Imported pass rates", bins, "{:.0f}"))
        parts.append("</div>")
    for analysis in analyses:
        lines = html.escape("\n".join(analysis_lines(analysis)))
        parts += [f"<h2>{html.escape(analysis.name)}</h2><pre>{lines}</pre>", '<div class="plots">']
        parts.append(_bars("Problems by difficulty", {name: float(n) for name, n in analysis.tiers.items()}, "{:.0f}"))
        shares = dict(zip(BEHAVIORS, analysis.behaviors.shares.tolist(), strict=True))
        parts.append(_bars("Steps by behavior", shares, "{:.1%}"))
        words = dict(zip(("25 %", "median", "75 %"), analysis.lengths.words, strict=True))
        parts += [_bars("Words per trace", words, "{:,.0f}"), _transitions(analysis), "</div>"]
    if len(analyses) > 1:
        parts.append('<h2>Side by side</h2><div class="plots">')
        for title, form, value in (
            ("Median words", "{:,.0f}", lambda a: a.lengths.words[1]),
            ("Median steps", "{:,.0f}", lambda a: a.lengths.steps[1]),
            ("Worth so many entirely different traces", "{:,.1f}", lambda a: a.trace_diversity.effective),
            ("Steps that reflect, explore or verify", "{:.1%}", lambda a: float(a.behaviors.shares[1:].sum())),
        ):
            parts.append(_bars(title, {a.name: value(a) for a in analyses}, form))
        parts.append("</div>")
    try:
        path.write_text("\n".join([*parts, "</html>"]) + "\n", "utf-8")
    except OSError as error:
        what = f"the page cannot be written ({error.strerror})"
        raise InputError(what, where=str(path), remedy="name a file in a folder that can be written to") from error


def _bars(title: str, values: Mapping[str, float], form: str) -> str:
    most = max(values.values(), default=0.0) or 1.0
    rows = []
    for name, value in values.items():
        width = max(0.0, min(100.0, 100 * value / most)) if value == value else 0.0
        cells = f'<td class="bar"><div style="width:{width:.1f}%"></div></td><td>{html.escape(form.format(value))}</td>'
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f"<div><h3>{html.escape(title)}</h3><table>{''.join(rows)}</table></div>"


def _transitions(analysis: Analysis) -> str:
    head = "".join(f"<th>{name}</th>" for name in BEHAVIORS)
    rows = []
    for name, row in zip(BEHAVIORS, analysis.behaviors.transitions.tolist(), strict=True):
        known = [(f"{value:.2f}", f"{value:.2f}") if value == value else ("0", "&ndash;") for value in row]
        cells = "".join(f'<td class="cell" style="background:rgba(61,126,166,{shade})">{said}</td>' for shade, said in known)
        rows.append(f"<tr><th>{name}</th>{cells}</tr>")
    return f"<div><h3>What follows what</h3><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"
