"""Figures of the Laffer experiment from its runs: means over seeds, intervals over queries, paired tests, the curve."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.core.significance import bootstrap_interval, holm, paired_randomization_test

ORDER = (
    "untrained",
    "random",
    "bm25",
    "dense",
    "fused",
    "judges",
    "mixed",
    "clean",
    "filtered",
    "zelo-mse",
    "zelo-kl",
    "spread-mse",
    "spread-kl",
)
ZELO = "zelo-kl"  # named before any test figure was seen: the same documents and loss family as the contrastive rivals
MINERS = ORDER[1:6]
WIDTH, HEIGHT = 460, 260  # of a panel of the curve, in pixels
Floats = NDArray[np.float64]
Key = tuple[str, str, float]


def write_table(runs: Path, folder: Path) -> None:
    """Write results.jsonl and curve.svg, and print the table as Markdown."""
    values: dict[Key, dict[str, list[Floats]]] = defaultdict(lambda: defaultdict(list))
    facts: dict[Key, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    rows = [json.loads(line) for line in runs.read_text().splitlines()]
    base = {(r["student"], r["collection"]): np.array(r["ndcg"]) for r in rows if r["system"] == "untrained"}
    for row in rows:
        if row["system"] != "untrained":
            key = (row["student"], row["collection"], row["rate"])
            values[key][row["system"]].append(np.array(row["ndcg"]))
            facts[key][row["system"]].append(row)
    lines = []
    for key, systems in sorted(values.items()):
        means = {"untrained": base[key[:2]], **{s: np.mean(systems[s], axis=0) for s in ORDER if s in systems}}
        lines += _rows(key, means, systems, facts[key])
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _print(lines)
    (folder / "curve.svg").write_text(_curve(lines))


def _rows(
    key: Key, means: dict[str, Floats], systems: dict[str, list[Floats]], facts: dict[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    rng, found = np.random.default_rng(0), []
    zelo = means.get(ZELO)
    rivals = [s for s in means if s not in (ZELO, "untrained") and zelo is not None]
    p = (
        dict(zip(rivals, holm([paired_randomization_test(zelo, means[s], rng=rng) for s in rivals]), strict=True))
        if rivals and zelo is not None
        else {}
    )
    for system, of_queries in means.items():
        difference = of_queries - means["untrained"]
        row: dict[str, Any] = {"student": key[0], "collection": key[1], "rate": key[2], "system": system, "queries": len(of_queries)}
        row |= {"nDCG@10": round(float(of_queries.mean()), 4)}
        if system != "untrained":
            low, high = bootstrap_interval(difference, rng=rng)
            seeds = [float(v.mean()) for v in systems[system]]
            row |= {
                "seeds": len(seeds), "seed_sd": round(float(np.std(seeds, ddof=1)), 4) if len(seeds) > 1 else None,
                "gain": round(float(difference.mean()), 4), "interval": [round(low, 4), round(high, 4)],
                "hidden": round(float(np.mean([f["hidden"] for f in facts[system]])), 3), "train": facts[system][0]["train"],
                "cpu_seconds": round(float(np.mean([f["cpu_seconds"] for f in facts[system]])), 1),
            }  # fmt: skip
        if system in p and zelo is not None:
            ahead = zelo - of_queries
            low, high = bootstrap_interval(ahead, rng=rng)
            row |= {
                "zelo_ahead": round(float(ahead.mean()), 4),
                "zelo_interval": [round(low, 4), round(high, 4)],
                "p_holm": round(float(p[system]), 4),
            }
        found.append(row)
    return found


def _print(lines: list[dict[str, Any]]) -> None:
    for key in dict.fromkeys((r["student"], r["collection"], r["rate"]) for r in lines):
        part = [r for r in lines if (r["student"], r["collection"], r["rate"]) == key]
        print(f"\n{key[0]}, {key[1]}, rate {key[2]:g}: {part[0]['queries']} test queries, untrained {part[0]['nDCG@10']:.4f}\n")
        print("| system | hidden | nDCG@10 | gain [95 %] | zELO ahead [95 %], p |\n|---|---|---|---|---|")
        for r in part[1:]:
            gain = f"{r['gain']:+.4f} [{r['interval'][0]:+.4f}, {r['interval'][1]:+.4f}]"
            ahead = (
                f"{r['zelo_ahead']:+.4f} [{r['zelo_interval'][0]:+.4f}, {r['zelo_interval'][1]:+.4f}], {r['p_holm']:.3f}"
                if "p_holm" in r
                else ""
            )
            print(f"| {r['system']} | {r['hidden']:.3f} | {r['nDCG@10']:.4f} | {gain} | {ahead} |")


def _curve(lines: list[dict[str, Any]]) -> str:
    """Gain over the untrained encoder by miner, one line per collection; the zELO student as a dashed level of the same color."""
    panels = list(dict.fromkeys((r["student"], r["rate"]) for r in lines))
    gains = [v for r in lines if "interval" in r and r["system"] in (*MINERS, ZELO) for v in r["interval"]]
    low, high = min(gains), max(gains)
    colors = dict(zip(dict.fromkeys(r["collection"] for r in lines), ("#1f5fa8", "#c2612c", "#3b8a57", "#8a4fa3"), strict=False))
    size = f"0 0 {len(panels) * (WIDTH + 80)} {HEIGHT + 110}"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif" font-size="12">']
    out.append('<rect width="100%" height="100%" fill="#fdfdfb"/>')

    def y(value: float) -> float:
        return round(HEIGHT - (value - low) / (high - low) * HEIGHT, 1)

    for number, (student, rate) in enumerate(panels):
        title = f"gain in nDCG@10, student {student}, rate {rate:g}; dashed: {ZELO}"
        out.append(f'<g transform="translate({60 + number * (WIDTH + 80)},40)"><text y="-18">{title}</text>')
        out.append(f'<path d="M0 {y(0)}H{WIDTH}" stroke="#999"/>')
        out += [f'<text x="-6" y="{y(v) + 4}" text-anchor="end">{v:+.3f}</text>' for v in (low, 0.0, high)]
        out += [f'<text x="{40 + i * 95}" y="{HEIGHT + 22}" text-anchor="middle">{miner}</text>' for i, miner in enumerate(MINERS)]
        for shift, (collection, color) in enumerate(colors.items()):
            of = {
                r["system"]: r for r in lines if (r["student"], r["rate"], r["collection"]) == (student, rate, collection) and "gain" in r
            }
            points = [
                (40 + i * 95 + 5 * shift, y(of[m]["gain"]), *(y(v) for v in of[m]["interval"])) for i, m in enumerate(MINERS) if m in of
            ]
            if not points:
                continue
            line = "L".join(f"{x} {middle}" for x, middle, _, _ in points)
            out.append(f'<path d="M{line}" fill="none" stroke="{color}"/>')
            out += [f'<path d="M{x} {bottom}V{top}" stroke="{color}"/>' for x, _, bottom, top in points]
            if ZELO in of:
                level = y(of[ZELO]["gain"])
                out.append(f'<path d="M0 {level}H{WIDTH}" stroke="{color}" stroke-dasharray="5 4"/>')
            out.append(f'<text x="{shift * 110}" y="{HEIGHT + 48}" fill="{color}">{collection}</text>')
        out.append("</g>")
    return "\n".join([*out, "</svg>"]) + "\n"
