"""Compiled score fits, one query after another: damped Newton steps, each solved by preconditioned conjugate gradients.

What is minimized is stated in `paired_comparison`, which checks what comes in and explains what went wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zelo.core._compiled import READ_ONLY, compiled
from zelo.core._connectivity import connectivity
from zelo.core._dense import back_substitute, cholesky, fill_dense, inverse_diagonal
from zelo.core._link_rows import LOGIT, PROBIT, log_likelihood_of, logit_rows, probit_rows

__all__ = ["LOGIT", "PROBIT", "fit_range"]

OK, NOT_CONVERGED, SINGULAR, BAD_DOCUMENT, BAD_PROBABILITY, BAD_WEIGHT, BAD_SLOPE = range(7)

_CLOSE, _FAIR, _SMALL_LATE = 0.25, 0.5, 1e-3  # how much of the slope along a step may be left
_CAREFUL_AFTER = 25  # Newton steps after which steps are solved directly and searched to their minimum
_TRIALS = 60
_FORCING = 0.1  # the first steps need no more accuracy than this
_ERROR = 1e-7  # of a score, wanted where the gradient alone does not bound it


@compiled("void(i8, i8, u4[::1], u4[::1], u4[::1], u4[::1], u4[::1], u4[::1])")
def _incidence(n: Any, m: Any, first: Any, second: Any, starts: Any, middles: Any, rows: Any, others: Any) -> None:
    """List for each document its rows and the other documents in them: those where it is first, then those where it is second.

    Document i has places starts[i] .. starts[i + 1] of `rows` and `others` [2m], and is second from middles[i] on.
    """
    for i in range(n + 1):
        starts[i] = 0
        middles[i] = 0
    for e in range(m):
        starts[first[e] + 1] += 1
        starts[second[e] + 1] += 1
    for i in range(n):
        starts[i + 1] += starts[i]
        middles[i] = starts[i]
    for e in range(m):
        place = middles[first[e]]
        rows[place] = e
        others[place] = second[e]
        middles[first[e]] = place + 1
    for i in range(n):
        starts[i] = middles[i]  # the next free place; put back below
    for e in range(m):
        place = starts[second[e]]
        rows[place] = e
        others[place] = first[e]
        starts[second[e]] = place + 1
    for i in range(n, 0, -1):
        starts[i] = starts[i - 1]
    starts[0] = 0


@compiled("void(i8, u4[::1], u4[::1], u4[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8[::1], f8, f8[::1], f8[::1], f8[::1])")
def _collect(
    n: Any, starts: Any, middles: Any, rows: Any, pull: Any, curvature: Any, s: Any, mean: Any, edge: Any, precision: Any,
    gradient: Any, diagonal: Any, inverse: Any,
) -> None:  # fmt: skip
    """Add the rows up: gradient [n], the Hessian's diagonal [n] and its inverse [n], and what is off the diagonal, edge [2m], negated."""
    for i in range(n):
        total = precision * (s[i] - mean[i])
        bend = precision
        for k in range(starts[i], middles[i]):
            total += pull[rows[k]]
            edge[k] = curvature[rows[k]]
            bend += edge[k]
        for k in range(middles[i], starts[i + 1]):
            total -= pull[rows[k]]
            edge[k] = curvature[rows[k]]
            bend += edge[k]
        gradient[i] = total
        diagonal[i] = bend
        inverse[i] = 1.0 / bend


@compiled("f8(i8, f8[::1], f8[::1])", reorder=True)
def _dot(n: Any, a: Any, b: Any) -> Any:
    total = 0.0
    for i in range(n):
        total += a[i] * b[i]
    return total


@compiled("f8(i8, f8[::1])", reorder=True)
def _largest(n: Any, a: Any) -> Any:
    """Largest absolute value, or a NaN if there is one."""
    most, total = 0.0, 0.0
    for i in range(n):
        most = max(most, abs(a[i]))
        total += a[i]
    return most if total == total else total


@compiled("f8(i8, f8, f8[::1], f8[::1], f8[::1], f8[::1], f8[::1])", reorder=True)
def _advance(n: Any, length: Any, step: Any, along: Any, residual: Any, image: Any, inverse: Any) -> Any:
    """Go `length` along the direction; returns the residual's square in the norm of the preconditioner."""
    total = 0.0
    for i in range(n):
        step[i] += length * along[i]
        residual[i] -= length * image[i]
        total += residual[i] * residual[i] * inverse[i]
    return total


@compiled("b1(i8, u4[::1], u4[::1], f8[::1], f8[::1], f8[::1], f8[::1], UniTuple(f8[::1], 3), f8[::1], f8)")
def _conjugate_gradients(
    n: Any, starts: Any, others: Any, edge: Any, diagonal: Any, inverse: Any, gradient: Any, work: Any, step: Any, accuracy: Any
) -> Any:
    """Solve Hessian step = -gradient until the residual is `accuracy` times the gradient; False if that takes too long."""
    residual, along, image = work[0], work[1], work[2]
    before = 0.0
    for i in range(n):
        step[i] = 0.0
        residual[i] = -gradient[i]
        along[i] = residual[i] * inverse[i]
        before += residual[i] * along[i]
    enough = accuracy * accuracy * before
    for _ in range(2 * n + 50):
        for i in range(n):
            even, odd = diagonal[i] * along[i], 0.0  # two sums, so that one need not wait for the other
            k, end = np.int64(starts[i]), np.int64(starts[i + 1])
            while k + 1 < end:
                even -= edge[k] * along[others[k]]
                odd -= edge[k + 1] * along[others[k + 1]]
                k += 2
            if k < end:
                even -= edge[k] * along[others[k]]
            image[i] = even + odd
        length = before / _dot(n, along, image)
        after = _advance(n, length, step, along, residual, image, inverse)
        if not after > enough:
            return after == after
        ratio = after / before
        for i in range(n):
            along[i] = residual[i] * inverse[i] + ratio * along[i]
        before = after
    return False


@compiled(
    "void(i8, i8, i8, u4[::1], u4[::1], UniTuple(f8[::1], 9), u4[::1], u4[::1], u4[::1], f8[::1], UniTuple(f8[::1], 9), "
    "f8[::1], f8, f8[::1])"
)
def _evaluate(
    link: Any, n: Any, m: Any, first: Any, second: Any, r: Any, starts: Any, middles: Any, rows: Any, edge: Any, d: Any, s: Any,
    precision: Any, mean: Any,
) -> None:  # fmt: skip
    """Put gradient and curvature at the scores s [n] into d (see `_Rows`) and edge."""
    x, prob, weight, slope, offset, pull, curvature = r[0], r[1], r[2], r[3], r[4], r[5], r[6]
    for e in range(m):
        x[e] = slope[e] * (s[first[e]] - s[second[e]]) + offset[e]
    if link == LOGIT:
        logit_rows(m, x, prob, weight, slope, pull, curvature)
    else:
        probit_rows(m, x, prob, weight, slope, pull, curvature)
    _collect(n, starts, middles, rows, pull, curvature, s, mean, edge, precision, d[1], d[2], d[3])


@compiled("b1(i8, u4[::1], u4[::1], f8[::1], UniTuple(f8[::1], 9))")
def _direct_step(n: Any, starts: Any, others: Any, edge: Any, d: Any) -> Any:
    """Solve for the Newton step by a Cholesky factor; False if the Hessian is singular to working precision."""
    a = np.empty((n, (n + 7) & -8))
    fill_dense(n, starts, others, edge, d[2], a)
    if not cholesky(n, a):
        return False
    back_substitute(n, a, d[1], d[4])
    return True


@compiled(
    "void(i8, i8, i8, u4[::1], u4[::1], UniTuple(f8[::1], 9), u4[::1], u4[::1], u4[::1], f8[::1], UniTuple(f8[::1], 9), f8, f8[::1], f8)"
)
def _walk(
    link: Any, n: Any, m: Any, first: Any, second: Any, r: Any, starts: Any, middles: Any, rows: Any, edge: Any, d: Any, precision: Any,
    mean: Any, close: Any,
) -> None:  # fmt: skip
    """Go along the step d[4], all of it or to where the slope has nearly vanished.

    The objective is convex: while the slope is negative, further is lower; once it is positive, the minimum lies in between.
    """
    s, gradient, step, base = d[0], d[1], d[4], d[8]
    slope = _dot(n, gradient, step)
    for i in range(n):
        base[i] = s[i]
        s[i] = base[i] + step[i]
    _evaluate(link, n, m, first, second, r, starts, middles, rows, edge, d, s, precision, mean)
    low, high, low_slope, high_slope = 0.0, 1.0, slope, _dot(n, gradient, step)
    if high_slope <= -close * slope:
        return
    for _ in range(_TRIALS):
        length = low + (high - low) * min(max(low_slope / (low_slope - high_slope), 0.05), 0.95)
        if high_slope != high_slope:
            length = 0.5 * (low + high)
        for i in range(n):
            s[i] = base[i] + length * step[i]
        _evaluate(link, n, m, first, second, r, starts, middles, rows, edge, d, s, precision, mean)
        now = _dot(n, gradient, step)
        if abs(now) <= -min(close, _FAIR) * slope:
            return
        if now < 0.0:
            low, low_slope, high_slope = length, now, 0.5 * high_slope
        else:
            high, high_slope, low_slope = length, now, 0.5 * low_slope


@compiled(
    "UniTuple(f8, 3)(i8, i8, i8, u4[::1], u4[::1], UniTuple(f8[::1], 9), u4[::1], u4[::1], u4[::1], u4[::1], "
    "f8[::1], UniTuple(f8[::1], 9), f8, f8[::1], f8, i8)"
)
def _maximize(
    link: Any, n: Any, m: Any, first: Any, second: Any, r: Any, starts: Any, middles: Any, rows: Any, others: Any, edge: Any, d: Any,
    precision: Any, mean: Any, tolerance: Any, max_iterations: Any,
) -> Any:  # fmt: skip
    """Newton's method from the prior mean; the scores are d[0]. Returns status, steps, gradient norm."""
    for i in range(n):
        d[0][i] = mean[i]
    _evaluate(link, n, m, first, second, r, starts, middles, rows, edge, d, d[0], precision, mean)
    before = np.inf
    for iteration in range(max_iterations + 1):
        norm = _largest(n, d[1])
        bend = _largest(n, d[2])
        if not norm < np.inf:
            break
        if norm <= tolerance:
            # norm / precision bounds the error of the scores. Where the prior is weak, go on as long as it helps.
            if norm <= _ERROR * precision or norm > 0.95 * before or iteration == max_iterations:
                return OK if precision > 1e-14 * bend else SINGULAR, iteration, norm
            before = norm
        elif iteration == max_iterations:
            break
        careful = iteration >= _CAREFUL_AFTER
        accuracy = min(_FORCING, max(norm / bend, 0.3 * min(tolerance, _ERROR * precision) / norm))
        solved = not careful and _conjugate_gradients(n, starts, others, edge, d[2], d[3], d[1], d[5:8], d[4], accuracy)
        if not solved and not _direct_step(n, starts, others, edge, d):
            return SINGULAR, iteration, norm
        _walk(link, n, m, first, second, r, starts, middles, rows, edge, d, precision, mean, _SMALL_LATE if careful else _CLOSE)
    return NOT_CONVERGED, iteration, norm


@compiled(
    "i8(i8, i8, i8, {i4}, {i4}, {f8}, {f8}, {f8}, {f8}, u4[::1], u4[::1], UniTuple(f8[::1], 9), u1[::1], i8[::1])".format(**READ_ONLY)
)
def _take_rows(
    n: Any, begin: Any, end: Any, first: Any, second: Any, prob: Any, weight: Any, slope: Any, offset: Any,
    i: Any, j: Any, r: Any, beaten: Any, found: Any,
) -> Any:  # fmt: skip
    """Check one query's rows and copy what was observed; found[0] is how many that is. Returns a status.

    Arrays of length 0 stand for their defaults: weight 1, slope 1, offset 0.
    """
    m = 0
    for e in range(begin, end):
        a, b = np.int64(first[e]), np.int64(second[e])
        if a < 0 or b < 0 or a >= n or b >= n or a == b:
            return BAD_DOCUMENT
        p = prob[e]
        w = weight[e] if weight.size else 1.0
        c = slope[e] if slope.size else 1.0
        o = offset[e] if offset.size else 0.0
        if p < 0.0 or p > 1.0:
            return BAD_PROBABILITY
        if not (w >= 0.0 and w < np.inf):
            return BAD_WEIGHT
        if not (abs(c) < np.inf and abs(o) < np.inf):
            return BAD_SLOPE
        if p == p and w > 0.0 and c != 0.0:
            i[m], j[m] = a, b
            r[1][m], r[2][m], r[3][m], r[4][m] = p, w, c, o
            up, down = (1 if p > 0.0 else 0), (1 if p < 1.0 else 0)
            beaten[m] = up | (down << 1) if c > 0.0 else down | (up << 1)
            m += 1
    found[0] = m
    return OK


@compiled("b1(i8, u4[::1], u4[::1], f8[::1], UniTuple(f8[::1], 9), f8[::1], f8[::1])")
def _standard_errors(n: Any, starts: Any, others: Any, edge: Any, d: Any, room: Any, stderr: Any) -> Any:
    """Write the roots of the diagonal of the inverse Hessian; False if that is singular to working precision."""
    width = (n + 7) & -8
    a = room[: n * width].reshape((n, width))
    fill_dense(n, starts, others, edge, d[2], a)
    if not cholesky(n, a):
        return False
    inverse_diagonal(n, a, d[4], d[5])
    for k in range(n):
        stderr[k] = np.sqrt(d[5][k])
    return True


@compiled("UniTuple(f8[::1], 9)(i8)")
def _nine(length: Any) -> Any:
    """Nine arrays to work in."""
    a = np.empty((9, length))
    return a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]


@compiled(
    "void(i8, i8, i8, {i8}, {i8}, {i4}, {i4}, {f8}, {f8}, {f8}, {f8}, {f8}, {f8}, f8, i8, b1, "
    "f8[::1], f8[::1], i4[::1], f8[::1], f8[::1], i4[::1], i4[::1], b1[::1], i1[::1])".format(**READ_ONLY),
    public=True,
)
def fit_range(
    link: Any, begin: Any, end: Any, starts_of: Any, rows_of: Any, first: Any, second: Any, prob: Any, weight: Any, slope: Any,
    offset: Any, prior_mean: Any, precision: Any, tolerance: Any, max_iterations: Any, with_stderr: Any,
    score: Any, stderr: Any, degree: Any, log_likelihood: Any, gradient_norm: Any, iterations: Any, components: Any, separated: Any,
    status: Any,
) -> None:  # fmt: skip
    """Fit the queries begin .. end - 1 and write what is known about them, from `score` on; see `paired_comparison.BatchFit`."""
    n_most, m_most = 1, 1
    for q in range(begin, end):
        n_most = max(n_most, starts_of[q + 1] - starts_of[q])
        m_most = max(m_most, rows_of[q + 1] - rows_of[q])
    whole_m, whole_n = np.empty((2, m_most), np.uint32), np.empty((5, n_most + 1), np.uint32)
    i, j = whole_m[0], whole_m[1]
    starts, middles, walk = whole_n[0], whole_n[1], (whole_n[2], whole_n[3], whole_n[4])
    rows, others, edge = np.empty(2 * m_most, np.uint32), np.empty(2 * m_most, np.uint32), np.empty(2 * m_most)
    r, d = _nine(m_most), _nine((n_most + 7) & -8)
    beaten, mean, found = np.empty(m_most, np.uint8), np.zeros(n_most), np.zeros(1, np.int64)
    room = np.empty(n_most * ((n_most + 7) & -8) if with_stderr else 0)
    for q in range(begin, end):
        start = starts_of[q]
        n = starts_of[q + 1] - start
        status[q] = _take_rows(n, rows_of[q], rows_of[q + 1], first, second, prob, weight, slope, offset, i, j, r, beaten, found)
        m = found[0]
        if status[q] != OK:
            continue
        if prior_mean.size:
            for k in range(n):
                mean[k] = prior_mean[start + k]
        _incidence(n, m, i, j, starts, middles, rows, others)
        heaviest = _largest(m, r[2])
        code, steps, norm = _maximize(
            link, n, m, i, j, r, starts, middles, rows, others, edge, d, precision[q], mean, tolerance * max(1.0, heaviest), max_iterations
        )
        status[q] = np.int8(code)
        iterations[q] = np.int32(steps)
        gradient_norm[q] = norm
        if status[q] != OK:
            continue
        log_likelihood[q] = log_likelihood_of(link, m, r[0], r[1], r[2], r[7])
        shift = 0.0
        for k in range(n):
            shift += d[0][k] - mean[k]
        for k in range(n):
            score[start + k] = d[0][k] - shift / n
            degree[start + k] = starts[k + 1] - starts[k]
        components[q], separated[q] = connectivity(n, beaten, starts, middles, rows, others, walk)
        if with_stderr and not _standard_errors(n, starts, others, edge, d, room, stderr[start : start + n]):
            status[q] = SINGULAR
