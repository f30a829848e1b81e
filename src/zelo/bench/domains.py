"""The table of a bench: each system on each collection, the mean over domains, and what differs from the baseline.

A domain's figure is the mean over its collections, the last row the mean over domains, so that neither a domain with many collections
nor a collection with many questions counts more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zelo.core.comparison_graph import rng_for
from zelo.core.significance import holm, paired_randomization_test, stratified_bootstrap_interval
from zelo.errors import InputError
from zelo.report.measured import FIRST_STAGE, in_order

MEAN = "mean over domains"
OfSystems = Mapping[str, Mapping[str, float]]
"""system -> query_id -> value of one measure; every system has the same questions."""


@dataclass(frozen=True)
class Cell:
    """One system in one place: a collection, or `MEAN`.

    `low` and `high` are a 95 % bootstrap interval over questions, within each collection. `difference` is the value minus the
    baseline's, with its interval; `p_value` is of a paired randomization test, two-sided, Holm-corrected: over the systems for the mean,
    over systems and collections for the others. They are None for what is not compared: the baseline and the other first stages.
    """

    system: str
    place: str
    value: float
    low: float
    high: float
    queries: int
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Table:
    """Cells by (system, place); the places are the collections in their order, then `MEAN`."""

    systems: tuple[str, ...]
    places: tuple[str, ...]
    domains: Mapping[str, str]
    baseline: str
    cells: Mapping[tuple[str, str], Cell]

    def cell(self, system: str, place: str) -> Cell:
        """Return a cell."""
        return self.cells[system, place]


def make_table(found: Mapping[str, OfSystems], domains: Mapping[str, str], baseline: str, resamples: int, seed: int) -> Table:
    """Put the values of one measure into a table.

    Args:
        found: collection -> system -> query_id -> value.
        domains: collection -> domain.
        baseline: a system; "" = the first stage with the best mean over domains.
        resamples: of intervals and tests.
        seed: of their draws.

    Raises:
        InputError: the baseline was not measured everywhere, or no system was.
    """
    everywhere = set.intersection(*(set(of) for of in found.values()))
    systems = in_order(s for of in found.values() for s in of if s in everywhere)
    weights = _weights(list(found), domains)
    means = {s: mean_over_domains({c: found[c][s] for c in found}, domains) for s in systems}
    firsts = [s for s in systems if s in FIRST_STAGE]
    if baseline and baseline not in systems:
        raise InputError(f"no system {baseline!r} in every collection", where="baseline", remedy=f"use one of: {', '.join(systems)}")
    baseline = baseline or max(firsts, key=lambda s: means[s], default="")
    compared = [s for s in systems if s not in firsts and s != baseline] if baseline else []
    made: dict[tuple[str, str], Cell] = {}
    for system in systems:
        against = baseline if system in compared else ""
        for place in [*found, MEAN]:
            within = list(found) if place == MEAN else [place]
            shares = [weights[c] for c in within]
            made[system, place] = _cell(system, place, {c: found[c] for c in within}, shares, against, resamples, seed)
    for family in ([MEAN], list(found)):
        keys = [(system, place) for system in compared for place in family]
        for key, p_value in zip(keys, holm([made[key].p_value or 0.0 for key in keys]).tolist(), strict=True):
            made[key] = replace(made[key], p_value=p_value)
    return Table(tuple(systems), (*found, MEAN), dict(domains), baseline, made)


def mean_over_domains(found: Mapping[str, Mapping[str, float]], domains: Mapping[str, str]) -> float:
    """Return the mean over domains of one system's values, collection -> query_id -> value."""
    weights = _weights(list(found), domains)
    return float(sum(weights[c] * np.mean(list(of.values())) for c, of in found.items()))


def _weights(collections: Sequence[str], domains: Mapping[str, str]) -> dict[str, float]:
    """Of each collection in the mean over domains; they sum to 1."""
    of = [domains[c] for c in collections]
    return {c: 1.0 / len(set(of)) / of.count(domains[c]) for c in collections}


def _cell(
    system: str, place: str, found: Mapping[str, OfSystems], shares: Sequence[float], against: str, resamples: int, seed: int
) -> Cell:
    total = sum(shares)
    weights = [share / total for share in shares]
    values = [np.array(list(of[system].values())) for of in found.values()]
    value = float(sum(w * v.mean() for w, v in zip(weights, values, strict=True)))
    low, high = stratified_bootstrap_interval(values, weights, resamples=resamples, rng=rng_for(seed, f"{system} {place}", "bootstrap"))
    cell = Cell(system, place, value, low, high, sum(map(len, values)))
    if not against:
        return cell
    theirs = [np.array([of[against][q] for q in of[system]]) for of in found.values()]
    differences = [a - b for a, b in zip(values, theirs, strict=True)]
    rng = rng_for(seed, f"{system} {place}", "difference")
    low, high = stratified_bootstrap_interval(differences, weights, resamples=resamples, rng=rng)
    # The signs of all questions' differences are flipped; each counts as much as it does in the mean.
    scaled = np.concatenate([w * d / len(d) for w, d in zip(weights, differences, strict=True)])
    rng = rng_for(seed, f"{system} {place}", "randomization")
    p_value = paired_randomization_test(scaled, np.zeros(len(scaled)), resamples, rng=rng)
    difference = float(sum(w * d.mean() for w, d in zip(weights, differences, strict=True)))
    return replace(cell, difference=difference, difference_low=low, difference_high=high, p_value=p_value)
