"""What this machine's processor multiplies by itself: which numbers are worth computing with follows from it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_NAMES = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx_vnni": "vnni",
    "avx512_vnni": "vnni",
    "avx512_bf16": "bf16",
    "amx_bf16": "amx",
    "amx_int8": "amx",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
}
"""Linux's word -> ours: vnni, dotprod, i8mm and amx multiply bytes, bf16 and amx bfloat16."""
_BYTES = {"vnni", "amx", "dotprod", "i8mm"}


@functools.cache
def instruction_sets(source: Path = _CPUINFO) -> tuple[str, ...]:
    """Return the names of the instruction sets that matter here, sorted; none where the system does not tell (it is not Linux)."""
    try:
        text = source.read_text("utf-8", "replace")
    except OSError:
        return ()
    words = {word for line in text.splitlines() if line.partition(":")[0].strip() in ("flags", "Features") for word in line.split()}
    return tuple(sorted({_NAMES[word] for word in words & set(_NAMES)}))


def multiplies_bytes(sets: tuple[str, ...] | None = None) -> bool:
    """Return whether products of bytes are added in 32 bits. Without that OpenVINO adds them in 16, and large sums are cut off."""
    return bool(_BYTES & set(instruction_sets() if sets is None else sets))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> str:
    """Return the processor in words, for tables."""
    return f"{cores()} cores, {' '.join(instruction_sets()) or 'instruction sets unknown'}"
