"""Which documents of a query meet: a random regular graph made of Hamiltonian cycles (paper section "graph", arXiv 2509.12541).

A Hamiltonian cycle visits every document once, so the union of `degree / 2` edge-disjoint ones is exactly `degree`-regular and
connected. Following each cycle in one direction shows every document first in exactly half of its comparisons, which cancels a
judge's position bias document by document at no cost. Documents are numbered 0 .. n - 1 here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, shortest_path

from zelo.errors import InputError

IntArray = NDArray[np.int64]

_NEAR = 8  # Steps up to which a diameter is found by products; random graphs of degree 8 need 4 at n = 100, 5 at n = 1,000.
RESTARTS = 8  # Drawings tried before the deterministic construction; more than one is needed only near the complete graph.


def rng_for(seed: int, query_id: str, purpose: str = "") -> np.random.Generator:
    """Return a generator that depends only on the seed, the purpose and the query.

    A query's draws therefore do not change when other queries are added, dropped or reordered. The bit generator is named, not
    NumPy's default, so that the same seed means the same graph under later NumPy versions.

    Args:
        seed: any integer.
        query_id: the query the draws are for.
        purpose: keeps two uses for one query apart, for example "teaching" and "tournament".
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (str(int(seed)), purpose, query_id):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)  # The length keeps ("ab", "c") and ("a", "bc") apart.
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest(), "little")))


def hamiltonian_cycles(n: int, degree: int, rng: np.random.Generator) -> IntArray:
    """Draw `degree / 2` edge-disjoint random Hamiltonian cycles over n documents.

    A repeated edge is redrawn (the paper's independent cycles repeat about 12 of 400 edges at n = 100), so no pair is paid for
    twice. With too few documents for that, `n <= degree`, every pair is compared once.

    Args:
        n: number of documents, >= 0.
        degree: comparisons per document, even and >= 2.
        rng: source of randomness.

    Returns:
        Pairs [m, 2] of document numbers, the first column shown first; no unordered pair twice. For n > degree, m = n * degree / 2,
        rows come cycle by cycle (the first c * n rows are a 2c-regular graph) and each document is first exactly degree / 2
        times. For 2 <= n <= degree, m = n * (n - 1) / 2 and how often documents are first differs by at most 1. For n < 2, m = 0.

    Raises:
        InputError: degree is odd or below 2, or n is negative.
    """
    if degree < 2 or degree % 2:
        raise InputError(f"degree must be an even number >= 2, got {degree}", remedy="each cycle gives every document two comparisons")
    if n < 0:
        raise InputError(f"the number of documents must be >= 0, got {n}")
    if n < 2:
        return np.empty((0, 2), dtype=np.int64)
    if n <= degree + 1:
        complete: IntArray = rng.permutation(n)[_complete_graph(n)]
        return complete
    cycles = _draw_cycles(n, degree // 2, rng)
    pairs: IntArray = np.stack([cycles, np.roll(cycles, -1, axis=1)], axis=-1).reshape(-1, 2)
    return pairs


def _complete_graph(n: int) -> IntArray:
    """All pairs [n (n - 1) / 2, 2]; document i leads against the ones up to halfway round a circle, so leads differ by at most 1."""
    step = np.arange(1, n // 2 + 1)
    first, gap = np.meshgrid(np.arange(n), step, indexing="ij")
    pairs = np.stack([first, (first + gap) % n], axis=-1).reshape(-1, 2)
    opposite = (2 * gap == n).ravel()  # With n even, i and i + n / 2 would meet twice.
    once: IntArray = pairs[~(opposite & (pairs[:, 0] >= n // 2))].astype(np.int64)
    return once


def _draw_cycles(n: int, count: int, rng: np.random.Generator) -> IntArray:
    """`count` edge-disjoint cycles [count, n], each a sequence of documents; needs n >= 2 count + 1."""
    if n > 2 * count + 2:  # Below that the cycles must use up a (nearly) complete graph: hopeless by chance.
        for _ in range(RESTARTS):
            cycles = np.empty((count, n), dtype=np.int64)
            used = np.zeros((n, n), dtype=np.bool_)
            for c in range(count):
                if not _repair(cycle := rng.permutation(n), used, rng):
                    break
                cycles[c] = cycle
                after = _turned(cycle, 1)
                used[cycle, after] = used[after, cycle] = True
            else:
                return cycles
    cycles = rng.permutation(_walecki_cycles(n))[:count]
    backward = rng.random(count) < 0.5
    cycles[backward] = cycles[backward, ::-1]
    relabeled: IntArray = rng.permutation(n)[cycles]
    return relabeled


def _repair(cycle: IntArray, used: NDArray[np.bool_], rng: np.random.Generator) -> bool:
    """Rewire a cycle [n] in place until none of its edges is `used` [n, n]; False when no single rewiring helps.

    Each step takes out a used edge (a, b) and a random other edge (c, d) and reconnects by unused (a, c) and (b, d), a 2-opt move:
    the number of used edges falls with every step, so the loop ends.
    """
    while True:
        repeated = np.flatnonzero(used[cycle, _turned(cycle, 1)])
        if not repeated.size:
            return True
        cycle[:] = _turned(cycle, repeated[0])  # Now the edge to replace is (cycle[0], cycle[1]).
        after = _turned(cycle, 1)
        free = ~used[cycle[0], cycle] & ~used[cycle[1], after]
        choices = np.flatnonzero(free[2:-1]) + 2  # An edge that touches the replaced one would only come back.
        if not choices.size:
            return False
        j = choices[rng.integers(choices.size)]
        cycle[1 : j + 1] = cycle[j:0:-1].copy()


def _turned(cycle: IntArray, places: int) -> IntArray:
    """The cycle from another place on: as np.roll(cycle, -places), which takes ten times as long for so few numbers."""
    return np.concatenate([cycle[places:], cycle[:places]])


def _walecki_cycles(n: int) -> IntArray:
    """The complete graph on n >= 3 documents as (n - 1) // 2 edge-disjoint Hamiltonian cycles [(n - 1) // 2, n].

    For odd n = 2m + 1 this is Walecki's construction (Lucas 1883): a hub and the zigzag 0, 1, -1, 2, -2, ..., m modulo 2m,
    turned by 0 .. m - 1. For even n one more document is put into one edge of every cycle, edges of which no two touch: its new
    edges are then all different, and what the cycles leave out of the complete graph is a perfect matching.
    """
    m = (n - 1) // 2
    zigzag = np.zeros(2 * m, dtype=np.int64)
    zigzag[1::2] = np.arange(1, m + 1)
    zigzag[2::2] = -np.arange(1, m)
    turned = (zigzag + np.arange(m)[:, None]) % (2 * m)
    cycles = np.column_stack([np.full(m, 2 * m), turned])
    if n % 2:
        return cycles
    rows = []
    for cycle, edge in zip(cycles, _disjoint_edges(m), strict=True):
        after = np.roll(cycle, -1)
        position = np.flatnonzero(np.isin(cycle, edge) & np.isin(after, edge))[0]
        rows.append(np.insert(cycle, position + 1, n - 1))
    return np.stack(rows)


def _disjoint_edges(m: int) -> IntArray:
    """Edges [m, 2], no two touching, edge c from Walecki's cycle c over 2m + 1 documents (hub = 2m).

    Cycle c holds exactly the edges whose ends sum to 2c or 2c + 1 modulo 2m, and the hub's edges to c and c + m. So (x, x + 1) lies
    in cycle x mod m: even x serve all cycles when m is odd; when m is even they serve the even ones, odd x > m the odd ones
    but the last, and the hub the last.
    """
    start = 2 * np.arange(m) if m % 2 else np.concatenate([np.arange(0, m, 2), np.arange(m + 1, 2 * m, 2)])
    edges = np.stack([start, start + 1], axis=1)  # For m even the last one is (2m - 1, 2m): already the hub's.
    return edges[np.argsort(start % m)]


@dataclass(frozen=True, slots=True)
class GraphStats:
    """What a comparison graph can tell apart. Resistances are in units of one comparison's; inf and -1 mean disconnected.

    Attributes:
        documents: number of documents.
        pairs: number of comparisons, repeats included.
        min_degree: fewest comparisons of any document.
        max_degree: most comparisons of any document.
        components: groups of documents with no comparison between groups.
        diameter: most comparisons on a shortest path between two documents; -1 when disconnected.
        mean_resistance: effective resistance, mean over all pairs of documents. The variance of an estimated score difference is
            proportional to it (Hendrickx et al., ICML 2019), not to the path length. 0 for fewer than two documents.
        max_resistance: effective resistance of the worst pair.
    """

    documents: int
    pairs: int
    min_degree: int
    max_degree: int
    components: int
    diameter: int
    mean_resistance: float
    max_resistance: float


def graph_stats(n: int, edges: IntArray) -> GraphStats:
    """Describe a comparison graph.

    Args:
        n: number of documents, >= 0.
        edges: pairs [m, 2] of different documents in 0 .. n - 1; a repeated pair counts as parallel comparisons.

    Raises:
        InputError: an edge names an unknown document or joins a document to itself.
    """
    edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    if edges.size and (edges.min() < 0 or edges.max() >= n or (edges[:, 0] == edges[:, 1]).any()):
        raise InputError(f"edges must join two different documents of 0 .. {n - 1}")
    if n < 2:
        return GraphStats(n, 0, 0, 0, n, 0, 0.0, 0.0)
    degree = np.bincount(edges.ravel(), minlength=n)
    weight = np.bincount(edges[:, 0] * n + edges[:, 1], minlength=n * n).reshape(n, n).astype(np.float64)
    weight += weight.T
    components = int(connected_components(csr_array(weight), directed=False, return_labels=False))
    diameter, mean_resistance, max_resistance = -1, np.inf, np.inf
    if components == 1:
        diameter = _diameter(weight > 0)
        # Adding 1 / n fills the Laplacian's only null direction; it cancels in the differences below.
        inverse = np.linalg.inv(np.diag(weight.sum(axis=1)) - weight + 1.0 / n)
        resistance = np.diag(inverse)[:, None] + np.diag(inverse)[None, :] - 2.0 * inverse
        mean_resistance, max_resistance = float(resistance.sum() / (n * (n - 1))), float(resistance.max())
    return GraphStats(n, len(edges), int(degree.min()), int(degree.max()), components, diameter, mean_resistance, max_resistance)


def _diameter(linked: NDArray[np.bool_]) -> int:
    """Most steps between two documents of a connected graph [n, n]: all ranges grow by a step at once, a few products where it is small."""
    step = linked.astype(np.float32)  # counts below 2**24 are exact
    within = linked | np.eye(len(linked), dtype=np.bool_)
    for steps in range(1, _NEAR):
        if within.all():
            return steps
        within |= within.astype(np.float32) @ step > 0
    return int(shortest_path(csr_array(linked), directed=False, unweighted=True).max())
