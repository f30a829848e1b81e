"""How the kernels of this folder are compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

READ_ONLY = {kind: f"Array({kind}, 1, 'C', True)" for kind in ("i4", "i8", "f8", "u1")}
"""Numba's notation of arrays that are not written to; writable ones are accepted too."""

_SOURCES = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("_*.py")))
_DIGEST = hashlib.sha256(_SOURCES).hexdigest()[:12]


def compiled(signature: str, *, reorder: bool = False, public: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for one signature when its module is imported, without the interpreter's lock, and keep it on disk.

    Args:
        signature: numba's notation of the types.
        reorder: sums may be added in any order, which lets them use vector instructions. The order does not depend on threads.
        public: it is called from Python, not only by other compiled functions.
    """
    import numba

    flags = {"contract", "nsz", "reassoc"} if reorder else {"contract", "nsz"}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        options: dict[str, Any] = {"nogil": True, "fastmath": flags, "error_model": "numpy"}
        options |= {} if public else {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        # It is kept under this name. numba notices changes of a function's own file, but not of another file's that it calls.
        function.__qualname__ += f"_{_DIGEST}"
        try:
            return numba.njit(signature, cache=True, **options)(function)
        except RuntimeError:  # no folder to keep it in can be written to
            return numba.njit(signature, **options)(function)

    return decorate


def add_four_rows() -> Any:
    """Return, for use in compiled functions, add(target, t, source, s0, s1, s2, s3, f0, f1, f2, f3, vectors).

    It does target[t + c] += f0 * source[s0 + c] + ... + f3 * source[s3 + c] for c in 0 .. 8 * vectors - 1, in vectors of eight;
    t and s count elements from the arrays' beginnings. The compiler makes no vectors of such loops by itself when target and source
    are the same array, and much of a short row would be left over.
    """
    from numba import types
    from numba.core import cgutils as untyped
    from numba.extending import intrinsic

    cgutils: Any = untyped

    @intrinsic
    def add(
        context: Any, target: Any, t: Any, source: Any, s0: Any, s1: Any, s2: Any, s3: Any, f0: Any, f1: Any, f2: Any, f3: Any, count: Any
    ) -> Any:
        signature = types.void(target, types.int64, source, *[types.int64] * 4, *[types.float64] * 4, types.int64)

        def generate(target_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            ir = cgutils.ir
            vector, index = ir.VectorType(ir.DoubleType(), 8), ir.IntType(64)
            into, out_of = (target_context.make_array(signature.args[k])(target_context, builder, arguments[k]).data for k in (0, 2))
            kind = ir.FunctionType(vector, [vector] * 3)
            fused = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v8f64")
            factors = []
            for factor in arguments[7:11]:
                one = builder.insert_element(ir.Constant(vector, ir.Undefined), factor, ir.Constant(ir.IntType(32), 0))
                factors.append(builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)))
            with cgutils.for_range(builder, arguments[11]) as loop:
                moved = builder.mul(loop.index, ir.Constant(index, 8))

                def place(base: Any, offset: Any) -> Any:
                    elements = builder.add(offset, moved)
                    return cgutils.pointer_add(builder, base, builder.mul(elements, ir.Constant(index, 8)), vector.as_pointer())

                at = place(into, arguments[1])
                total = builder.load(at, align=8)
                for offset, factor in zip(arguments[3:7], factors, strict=True):
                    total = builder.call(fused, [factor, builder.load(place(out_of, offset), align=8), total])
                builder.store(total, at, align=8)
            return target_context.get_dummy_value()

        return signature, generate

    return add
