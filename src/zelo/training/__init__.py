"""How models learn: plain functions that take data and return or write models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Example = tuple[str, list[str], NDArray[np.float64]]
"""A training query: its text, the texts of its documents, and their targets [documents] in [0, 1]."""
