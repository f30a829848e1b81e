"""Compiled dense algebra on small symmetric matrices: what standard errors need.

A matrix [n, n] lies in an array [n, width], width being n rounded up to a multiple of 8: rows are worked on in vectors of eight.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zelo.core._compiled import add_four_rows, compiled

_add = add_four_rows()


@compiled("void(i8, u4[::1], u4[::1], f8[::1], f8[::1], f8[:, ::1])")
def fill_dense(n: Any, starts: Any, others: Any, edge: Any, diagonal: Any, a: Any) -> None:
    """Write the upper triangle of a matrix, zeros below it: the diagonal [n], and -edge between a document and its others."""
    for i in range(n):
        for k in range(a.shape[1]):
            a[i, k] = 0.0
        a[i, i] = diagonal[i]
        for k in range(starts[i], starts[i + 1]):
            if others[k] > i:
                a[i, others[k]] -= edge[k]


@compiled("b1(i8, f8[:, ::1])")
def cholesky(n: Any, a: Any) -> Any:
    """Replace the upper triangle of a by U with U'U = a, four rows at a time; False if a is not positive definite.

    What is below the diagonal is zero again at the end.
    """
    width = a.shape[1]
    for k in range(0, n, 4):
        for i in range(k, n):
            # Row i lacks the rows k .. k + 3, or those of them that are above it; where there is none the factor is 0.
            left = i & -8
            f1 = -a[k + 1, i] if i > k + 1 else 0.0
            f2 = -a[k + 2, i] if i > k + 2 else 0.0
            f3 = -a[k + 3, i] if i > k + 3 else 0.0
            above = k * width + left
            if i > k:
                s1 = above + width if i > k + 1 else above
                s2 = above + 2 * width if i > k + 2 else above
                s3 = above + 3 * width if i > k + 3 else above
                _add(a, i * width + left, a, above, s1, s2, s3, -a[k, i], f1, f2, f3, (width - left) >> 3)
            if i < k + 4:
                if not a[i, i] > 0.0:
                    return False
                scale = 1.0 / np.sqrt(a[i, i])
                for c in range(i, n):
                    a[i, c] *= scale
    for i in range(n):
        for c in range(max(i - 16, 0), i):
            a[i, c] = 0.0
    return True


@compiled("void(i8, f8[:, ::1], f8[::1], f8[::1])")
def back_substitute(n: Any, u: Any, gradient: Any, step: Any) -> None:
    """Solve U'U step = -gradient."""
    for i in range(n):
        step[i] = -gradient[i]
    for i in range(n):
        step[i] /= u[i, i]
        for c in range(i + 1, n):
            step[c] -= u[i, c] * step[i]
    for i in range(n - 1, -1, -1):
        total = step[i]
        for c in range(i + 1, n):
            total -= u[i, c] * step[c]
        step[i] = total / u[i, i]


@compiled("void(i8, f8[:, ::1], f8[::1], f8[::1])")
def inverse_diagonal(n: Any, u: Any, row: Any, diagonal: Any) -> None:
    """Write the diagonal [n] of (U'U)^-1; U is replaced by its inverse V, row by row from the last, and its rows' squares are summed.

    row [width] is overwritten.
    """
    width = u.shape[1]
    for i in range(n - 1, -1, -1):
        for c in range(i & -8, width):
            row[c] = 0.0
        for k in range(i + 1, n, 4):
            left = k & -8
            s0 = k * width + left
            s1 = s0 + width if k + 1 < n else s0
            s2 = s0 + 2 * width if k + 2 < n else s0
            s3 = s0 + 3 * width if k + 3 < n else s0
            f1 = u[i, k + 1] if k + 1 < n else 0.0
            f2 = u[i, k + 2] if k + 2 < n else 0.0
            f3 = u[i, k + 3] if k + 3 < n else 0.0
            _add(row, left, u, s0, s1, s2, s3, u[i, k], f1, f2, f3, (width - left) >> 3)
        scale = 1.0 / u[i, i]
        total = scale * scale
        u[i, i] = scale
        for c in range(i + 1, n):
            u[i, c] = -scale * row[c]
            total += u[i, c] * u[i, c]
        diagonal[i] = total
