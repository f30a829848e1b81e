"""What a pointwise reranker learns from: one function per loss, all of (logits [n], targets, groups [n]) -> a scalar.

A model's score is sigmoid(z) with z = logit / scale (the released models: scale 5), and every loss is a function of z.
Mean squared error is the paper's (zELO, section 5.5). `groups` numbers the query of each row: losses over lists compare
rows of one query only, and see those that share a forward pass (`together` in the loop's settings).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zelo.encoders.extras import import_extra
from zelo.errors import InputError

FloatArray = NDArray[np.float64]
Loss = Callable[[Any, Any, Any], Any]

CLIP = 1e-4  # targets are moved so far away from 0 and 1 before their log-odds are taken


def make_loss(name: str, scale: float = 1.0) -> Loss:
    """Return a loss of `LOSSES` on logits / scale; its name says both, for the identity of a training.

    Args:
        name: key of `LOSSES`.
        scale: of the logits, above 0.

    Raises:
        InputError: no such loss, or a scale that is not above 0.
    """
    if name not in LOSSES:
        raise InputError(f"no loss {name!r}", remedy=f"use one of: {', '.join(LOSSES)}")
    if not 0 < scale < np.inf:
        raise InputError(f"a scale of {scale} is not above 0", remedy="use 5, the scale of the released models")
    chosen = LOSSES[name]

    def loss(logits: Any, targets: Any, groups: Any) -> Any:
        return chosen(logits / scale, targets, groups)

    loss.__qualname__ = f"{name}, scale {scale:g}"
    return loss


def mse(z: Any, targets: Any, groups: Any) -> Any:
    """Mean squared error of sigmoid(z) to targets [n] in [0, 1]."""
    return ((z.sigmoid() - targets) ** 2).mean()


def bce(z: Any, targets: Any, groups: Any) -> Any:
    """Binary cross-entropy to soft targets [n] in [0, 1]: its gradient does not fade where the sigmoid is flat."""
    return _functional().binary_cross_entropy_with_logits(z, targets)


def ranknet(z: Any, targets: Any, groups: Any) -> Any:
    """RankNet (Burges et al. 2005): log(1 + exp(-(z_i - z_j))), mean over the pairs of a query with target i > target j."""
    above = _same(groups) & (targets[:, None] > targets[None, :])
    return _mean(_functional().softplus(z[None, :] - z[:, None]), above)


def listwise_kl(z: Any, targets: Any, groups: Any) -> Any:
    """KL(softmax of the targets' log-odds || softmax of z) within a query, mean over queries.

    0 if and only if z equals the targets' log-odds up to a constant per query. Targets [n] in [0, 1].
    """
    wanted = _log_softmax(targets.clamp(CLIP, 1 - CLIP).logit(), groups)
    found = _log_softmax(z, groups)
    return (wanted.exp() * (wanted - found)).sum() / len(groups.unique())


def pairs(z: Any, targets: Any, groups: Any) -> Any:
    """Distill observed comparisons directly, without scores (arXiv 2507.04820), soft: cross-entropy of sigmoid(z_i - z_j).

    Mean over the comparisons whose two documents share a forward pass; the others are left out.

    Args:
        z: [n].
        targets: [n, 1 + 2 k] from `pair_targets`.
        groups: [n].
    """
    torch = import_extra("torch", "torch")
    k = (targets.shape[1] - 1) // 2
    own, partners, wanted = targets[:, 0], targets[:, 1 : 1 + k], targets[:, 1 + k :]
    # met[i, e, j]: row j is the partner of row i in its comparison e
    met = (partners[:, :, None] == own[None, None, :]) & _same(groups)[:, None, :]
    i, e, j = torch.nonzero(met, as_tuple=True)
    if not len(i):
        return z.sum() * 0
    return _functional().binary_cross_entropy_with_logits(z[i] - z[j], wanted[i, e])


def infonce(z: Any, targets: Any, groups: Any) -> Any:
    """InfoNCE: -log of a positive's share in softmax(z) over itself and its query's negatives, mean over positives.

    Targets [n] above 1/2 are positives, the others negatives. A positive without negatives costs nothing.
    """
    torch = import_extra("torch", "torch")
    positive = targets > 0.5
    if not positive.any():
        return z.sum() * 0
    rivals = (_same(groups) & ~positive[None, :]) | torch.eye(len(z), dtype=torch.bool, device=z.device)
    share = z - z[None, :].masked_fill(~rivals, -torch.inf).logsumexp(1)
    return -share[positive].mean()


LOSSES: dict[str, Loss] = {"mse": mse, "bce": bce, "ranknet": ranknet, "listwise_kl": listwise_kl, "pairs": pairs, "infonce": infonce}
"""Name -> function of (z [n], targets, groups [n])."""

OVER_LISTS = frozenset({"ranknet", "listwise_kl", "pairs", "infonce"})
"""Those that compare rows of a query, which must therefore share a forward pass."""


def pair_targets(n: int, first: NDArray[np.int64], second: NDArray[np.int64], prob_first: FloatArray) -> FloatArray:
    """Return the targets of `pairs` for a query's documents.

    Args:
        n: documents of the query.
        first: number of a compared document [m], in 0 .. n - 1.
        second: number of the other one [m].
        prob_first: P(first beats second) [m] in [0, 1].

    Returns:
        [n, 1 + 2 k], k = most comparisons of a document (at least 1): the document's number, the numbers of those that it was
        compared with, and its probability to beat each. What is left over is -1. A comparison is in the rows of both documents.
    """
    rows: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for a, b, p in zip(first.tolist(), second.tolist(), prob_first.tolist(), strict=True):
        rows[a].append((b, p))
        rows[b].append((a, 1 - p))
    k = max(1, max((len(row) for row in rows), default=0))
    found = np.full((n, 1 + 2 * k), -1.0)
    found[:, 0] = np.arange(n)
    for number, row in enumerate(rows):
        for e, (partner, prob) in enumerate(row):
            found[number, 1 + e], found[number, 1 + k + e] = partner, prob
    return found


def _functional() -> Any:
    return import_extra("torch", "torch").nn.functional


def _same(groups: Any) -> Any:
    return groups[:, None] == groups[None, :]


def _mean(values: Any, mask: Any) -> Any:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _log_softmax(values: Any, groups: Any) -> Any:
    """Within each group."""
    same = _same(groups)
    return values - values[None, :].masked_fill(~same, -import_extra("torch", "torch").inf).logsumexp(1)
