"""Compiled parts of `active_pairs`: posterior covariance, expected loss, and the greedy choice of pairs.

Functions call each other only within this file, because the compiler's cache notices changes of the file of a function, not of
those it calls. Loops over a row of a matrix have no branch and no call, so that the compiler turns them into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zelo.core._compiled import compiled


@compiled("f8[:, ::1](i8, i4[::1], i4[::1], f8[::1], f8)", reorder=True, public=True)
def covariance(n: Any, first: Any, second: Any, curvature: Any, precision: Any) -> Any:
    """Inverse [n, n] of the Laplacian of the rows weighted by curvature [m] >= 0, plus precision > 0 on the diagonal.

    Sweeps one document after another (Goodnight 1979), without pivoting: the matrix is positive definite and its diagonal dominates.
    """
    a = np.zeros((n, n))
    for i in range(n):
        a[i, i] = precision
    for e in range(len(first)):
        i, j, h = first[e], second[e], curvature[e]
        a[i, i] += h
        a[j, j] += h
        a[i, j] -= h
        a[j, i] -= h
    row = np.empty(n)
    for k in range(n):
        inverse = 1.0 / a[k, k]
        row[:] = a[k]
        for i in range(n):
            factor = row[i] * inverse
            for j in range(n):
                a[i, j] -= factor * row[j]
        for j in range(n):
            a[k, j] = row[j] * inverse
            a[j, k] = row[j] * inverse
        a[k, k] = -inverse
    for i in range(n):
        for j in range(n):
            a[i, j] = -a[i, j]
    return a


@compiled("f8[:, ::1](f8[:, ::1], f8[:, ::1])", reorder=True, public=True)
def sandwich(c: Any, loss: Any) -> Any:
    """The product c @ loss @ c of symmetric matrices [n, n], skipping zeros of the loss."""
    n = len(c)
    product = np.zeros((n, n))
    result = np.zeros((n, n))
    for i in range(n):
        for k in range(n):
            factor = loss[i, k]
            if factor != 0.0:
                for j in range(n):
                    product[i, j] += factor * c[k, j]
    for i in range(n):
        for k in range(n):
            factor = c[i, k]
            for j in range(n):
                result[i, j] += factor * product[k, j]
    return result


@compiled("f8[:, ::1](f8[::1], f8[:, ::1], f8[::1], f8)", reorder=True, public=True)
def misorder_loss(score: Any, c: Any, discount: Any, rate: Any) -> Any:
    """How fast the expected loss of DCG by two documents in the wrong order grows with the variance of their difference.

    The difference is normal with mean m and variance v. Where the order is wrong, the loss is |difference| times the difference of
    the discounts [n] of the two, times the slope of the gain exp(rate * score); its mean grows with v by phi(m / sqrt v) / (2 sqrt v).
    Returns the Laplacian [n, n] of these rates: a symmetric matrix L such that x' L x adds them up over pairs, times (x_i - x_j)^2.
    """
    n = len(score)
    laplacian = np.zeros((n, n))
    top = score.max()
    for i in range(n):
        for j in range(i):
            stake = abs(discount[i] - discount[j])
            if stake > 0.0:
                v = max(c[i, i] + c[j, j] - 2.0 * c[i, j], 1e-300)
                m = score[i] - score[j]
                growth = stake * np.exp(rate * (0.5 * (score[i] + score[j]) - top) - 0.5 * m * m / v) / np.sqrt(v)
                laplacian[i, j] = -growth
                laplacian[j, i] = -growth
                laplacian[i, i] += growth
                laplacian[j, j] += growth
    return laplacian


@compiled("f8(f8[::1], f8[:, ::1], f8[:, ::1], f8[::1], f8)", reorder=True, public=True)
def expected_ndcg_loss(score: Any, c: Any, normal: Any, discount: Any, rate: Any) -> Any:
    """1 - nDCG of the documents ordered by score, mean over draws of their true scores from the posterior N(score, c).

    normal: standard normal deviates [draws, n]. discount: of the ranks [k]. The gain is exp(rate * true score).
    """
    n, k = len(score), min(len(discount), len(score))
    root = np.zeros((n, n))  # Cholesky factor of c
    for j in range(n):
        for i in range(j, n):
            total = c[i, j]
            for p in range(j):
                total -= root[i, p] * root[j, p]
            root[i, j] = np.sqrt(max(total, 0.0)) if i == j else (total / root[j, j] if root[j, j] > 0.0 else 0.0)
    order = np.argsort(-score)
    best = np.empty(k)
    lost = 0.0
    for draw in range(len(normal)):
        best[:] = -np.inf
        drawn = np.empty(n)
        for i in range(n):
            total = score[i]
            for p in range(i + 1):
                total += root[i, p] * normal[draw, p]
            drawn[i] = total
            if total > best[k - 1]:
                at = k - 1
                while at > 0 and best[at - 1] < total:
                    best[at] = best[at - 1]
                    at -= 1
                best[at] = total
        ours, most = 0.0, 0.0
        for r in range(k):
            ours += discount[r] * np.exp(rate * (drawn[order[r]] - best[0]))
            most += discount[r] * np.exp(rate * (best[r] - best[0]))
        lost += 1.0 - ours / most
    return lost / len(normal)


@compiled("void(f8[:, ::1], f8[::1], f8[::1])", reorder=True)
def add_outer(a: Any, u: Any, w: Any) -> None:
    """Add u w' + w u' to the symmetric matrix a [n, n]."""
    n = len(u)
    for i in range(n):
        left, right = u[i], w[i]
        for j in range(n):
            a[i, j] += left * w[j] + right * u[j]


@compiled("void(f8[:, ::1], f8[:, ::1], f8, i8, i8)", reorder=True, public=True)
def observe(c: Any, m: Any, information: Any, i: Any, j: Any) -> None:
    """Update the covariance c and m = c L c (or no m: shape [0, 0]) as if i and j had been compared, by Sherman and Morrison's formula.

    With x = e_i - e_j, u = c x and g = information / (1 + information x' u), c loses g u u', and therefore
    m loses g (u t' + t u') - g^2 (u' L u) u u' with t = m x.
    """
    n = len(c)
    u, half = np.empty(n), np.empty(n)
    for k in range(n):
        u[k] = c[i, k] - c[j, k]
    g = information / (1.0 + information * (u[i] - u[j]))
    if len(m):
        q = m[i, i] + m[j, j] - 2.0 * m[i, j]
        for k in range(n):
            half[k] = 0.5 * g * g * q * u[k] - g * (m[i, k] - m[j, k])
        add_outer(m, u, half)
    for k in range(n):
        half[k] = -0.5 * g * u[k]
    add_outer(c, u, half)


@compiled("i8(f8, f8[::1], f8[::1], f8[::1], f8[::1], f8)", reorder=True)
def _gains_of_information(own: Any, c: Any, diagonal: Any, information: Any, gain: Any, most: Any) -> Any:
    """Information times variance of the difference, for one document and each of [k] others; returns how many are above `most`."""
    above = 0
    for j in range(len(c)):
        gain[j] = information[j] * (own + diagonal[j] - 2.0 * c[j])
        above += gain[j] > most
    return above


@compiled("i8(f8, f8, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8)", reorder=True)
def _gains_of_loss(own: Any, m_own: Any, c: Any, m: Any, diagonal: Any, m_diagonal: Any, information: Any, gain: Any, most: Any) -> Any:
    """Fall of the trace of L c, for one document and each of [k] others; returns how many are above `most`."""
    above = 0
    for j in range(len(c)):
        v = own + diagonal[j] - 2.0 * c[j]
        gain[j] = information[j] * (m_own + m_diagonal[j] - 2.0 * m[j]) / (1.0 + information[j] * v)
        above += gain[j] > most
    return above


@compiled("i4[:, ::1](f8[:, ::1], f8[:, ::1], f8[:, ::1], i8, i8)", reorder=True, public=True)
def choose(c: Any, m: Any, information: Any, count: Any, cap: Any) -> Any:
    """Choose up to `count` pairs, each the best given the ones before it; returns them [k, 2], best first.

    c, m and information [n, n] are overwritten. information: of one more comparison; 0 = not to be compared. m: c L c, or shape
    [0, 0] for the gain in information. No document is in more than `cap` of the pairs.
    """
    n = len(c)
    chosen = np.empty((count, 2), dtype=np.int32)
    load = np.zeros(n, dtype=np.int64)
    diagonal, m_diagonal, gain = np.empty(n), np.empty(n), np.empty(n)
    for t in range(count):
        for k in range(n):
            diagonal[k] = c[k, k]
            if len(m):
                m_diagonal[k] = m[k, k]
        most, first, second = 0.0, -1, -1
        for i in range(n - 1):
            if load[i] >= cap:
                continue
            after, row, d = information[i, i + 1 :], c[i, i + 1 :], diagonal[i + 1 :]
            if len(m):
                above = _gains_of_loss(diagonal[i], m_diagonal[i], row, m[i, i + 1 :], d, m_diagonal[i + 1 :], after, gain, most)
            else:
                above = _gains_of_information(diagonal[i], row, d, after, gain, most)
            if above:
                for j in range(n - 1 - i):
                    if gain[j] > most:
                        most, first, second = gain[j], i, i + 1 + j
        if first < 0:
            return chosen[:t].copy()
        chosen[t, 0], chosen[t, 1] = first, second
        observe(c, m, information[first, second], first, second)
        information[first, second] = 0.0
        information[second, first] = 0.0
        for k in chosen[t]:
            load[k] += 1
            if load[k] >= cap:
                information[k, :] = 0.0
                information[:, k] = 0.0
    return chosen


@compiled("void(i4[:, ::1], i8[::1])", public=True)
def orient(pairs: Any, lead: Any) -> None:
    """Put first, in each pair in turn, whichever document has led less; `lead` [n] counts leads minus the other comparisons."""
    for t in range(len(pairs)):
        if lead[pairs[t, 0]] > lead[pairs[t, 1]]:
            pairs[t, 0], pairs[t, 1] = pairs[t, 1], pairs[t, 0]
        lead[pairs[t, 0]] += 1
        lead[pairs[t, 1]] -= 1
