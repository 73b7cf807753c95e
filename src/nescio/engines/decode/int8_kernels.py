"""A decode step of Llama's layers over int8 weights, compiled by Numba: no Python and no operator between two products.

A step of few rows reads every weight once. With int8 weights that is a quarter of the bytes, and what is left is the
time that PyTorch takes to call some 2,000 operators; here a layer is one call. Weights are int8 in groups along the
inputs, each with its scale; activations and sums are fp32.
"""

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Floats = NDArray[np.float32]

Linear = tuple[NDArray[np.int8], Floats, Floats, Floats, Floats]
"""Weights `[out, groups, n]`, their scales `[out, groups]`, bias `[out]` or `[0]`; the adapters' A `[ranks, in]` and
B `[ranks, out]`, of no ranks where none adapts the layer."""

# Sums may be taken in any order; NaN and infinity keep their meaning.
_HOW: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy", "nogil": True, "cache": True,
}  # fmt: skip
_WORTH_THREADS = 1 << 22  # weights from which threads save more than it takes to start and join them
_config: Any = numba.config
_compiled: Any = njit(**_HOW)
_parallel: Any = njit(**_HOW, parallel=True)


@_compiled
def _one(w: Any, s: Any, x: Any) -> Any:
    """Return the product of an output's weights `w [groups, n]`, scaled by `s [groups]`, with a row `x [groups, n]`."""
    a = np.float32(0)
    for g in range(w.shape[0]):
        wg, xg, p = w[g], x[g], np.float32(0)
        for i in range(w.shape[1]):
            p += np.float32(wg[i]) * xg[i]
        a += p * s[g]
    return a


@_compiled
def _two(w: Any, s: Any, x: Any, y: Any) -> Any:
    """Return the products with two rows: each weight is widened once."""
    a, b = np.float32(0), np.float32(0)
    for g in range(w.shape[0]):
        wg, xg, yg, p, q = w[g], x[g], y[g], np.float32(0), np.float32(0)
        for i in range(w.shape[1]):
            v = np.float32(wg[i])
            p += v * xg[i]
            q += v * yg[i]
        a += p * s[g]
        b += q * s[g]
    return a, b


@_compiled
def _four(w: Any, s: Any, x: Any, y: Any, z: Any, u: Any) -> Any:
    """Return the products with four rows."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for g in range(w.shape[0]):
        wg, xg, yg, zg, ug = w[g], x[g], y[g], z[g], u[g]
        p, q, r, t = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for i in range(w.shape[1]):
            v = np.float32(wg[i])
            p += v * xg[i]
            q += v * yg[i]
            r += v * zg[i]
            t += v * ug[i]
        a += p * s[g]
        b += q * s[g]
        c += r * s[g]
        d += t * s[g]
    return a, b, c, d


@_compiled
def _products(w: Any, s: Any, x: Any, out: Any, o: int) -> None:
    """Write an output of all rows."""
    wo, so, rows = w[o], s[o], x.shape[0]
    for r in range(rows // 4):
        four = _four(wo, so, x[4 * r], x[4 * r + 1], x[4 * r + 2], x[4 * r + 3])
        for k in range(4):
            out[4 * r + k, o] = four[k]
    done = rows // 4 * 4
    if rows - done >= 2:
        out[done, o], out[done + 1, o] = _two(wo, so, x[done], x[done + 1])
        done += 2
    if rows > done:
        out[done, o] = _one(wo, so, x[done])


@_parallel
def _multiply_in_threads(w: Any, s: Any, x: Any, out: Any) -> None:
    for o in prange(w.shape[0]):
        _products(w, s, x, out, o)


@_compiled
def multiply(w: Any, s: Any, x: Any, out: Any, threads: bool) -> None:
    """Multiply rows with int8 weights.

    Args:
        w: `[out, groups, n]` int8.
        s: `[out, groups]`, fp32.
        x: `[rows, groups, n]`, fp32.
        out: `[rows, out]`, written.
        threads: Whether threads may share the work.
    """
    if threads and w.size >= _WORTH_THREADS:
        _multiply_in_threads(w, s, x, out)
    else:
        for o in range(w.shape[0]):
            _products(w, s, x, out, o)


@_compiled
def _linear(layer: Any, x: Any, mask: Any, threads: bool) -> Any:
    """Return `[rows, out]`: a linear layer with its bias and the rows' adapters; `mask [rows, ranks]` picks them."""
    w, s, bias, a, b = layer
    out = np.empty((x.shape[0], w.shape[0]), np.float32)
    multiply(w, s, x.reshape(x.shape[0], w.shape[1], w.shape[2]), out, threads)
    if bias.shape[0]:
        out += bias
    for r in range(x.shape[0]):
        xr = x[r]
        for k in range(min(a.shape[0], mask.shape[1])):
            if mask[r, k] == 0:
                continue
            ak, t = a[k], np.float32(0)
            for i in range(ak.shape[0]):
                t += ak[i] * xr[i]
            for o in range(out.shape[1]):
                out[r, o] += t * b[k, o]
    return out


@_compiled
def _normed(h: Any, weight: Any, eps: float) -> Any:
    """Return RMS-normalised rows `[rows, hidden]`."""
    out = np.empty_like(h)
    for r in range(h.shape[0]):
        total = np.float32(0)
        for i in range(h.shape[1]):
            total += h[r, i] * h[r, i]
        factor = np.float32(1 / np.sqrt(total / h.shape[1] + eps))
        for i in range(h.shape[1]):
            out[r, i] = h[r, i] * factor * weight[i]
    return out


@_compiled
def _rotated(x: Any, cos: Any, sin: Any) -> None:
    """Rotate the heads of rows in place: `x [rows, heads, size]`, `cos` and `sin` `[rows, size]`."""
    half = x.shape[2] // 2
    for r in range(x.shape[0]):
        for n in range(x.shape[1]):
            for i in range(half):
                one, other = x[r, n, i], x[r, n, i + half]
                x[r, n, i] = one * cos[r, i] - other * sin[r, i]
                x[r, n, i + half] = other * cos[r, i + half] + one * sin[r, i + half]


@_compiled
def _attended(q: Any, keys: Any, values: Any, starts: Any, scaling: float) -> Any:
    """Return `[rows, heads, size]`: each row's query over the keys up to its own place.

    Args:
        q: `[rows, heads, size]`.
        keys: `[rows, key heads, columns, size]`, and `values` like it.
        starts: `[rows]`: the place of the row's token.
        scaling: Factor of the scores.
    """
    rows, heads, size = q.shape
    share = heads // keys.shape[1]
    out = np.empty_like(q)
    for place in range(rows * heads):
        r, n = place // heads, place % heads
        own, key, value = q[r, n], keys[r, n // share], values[r, n // share]
        seen = starts[r] + 1
        scores = np.empty(seen, np.float32)
        most = np.float32(-np.inf)
        for t in range(seen):
            kt, a = key[t], np.float32(0)
            for i in range(size):
                a += own[i] * kt[i]
            scores[t] = a * scaling
            most = max(most, scores[t])
        total, sums = np.float32(0), np.zeros(size, np.float32)
        for t in range(seen):
            e, vt = np.exp(scores[t] - most), value[t]
            total += e
            for i in range(size):
                sums[i] += e * vt[i]
        out[r, n] = sums / total
    return out


@_compiled
def layer(
    h: Any, norms: Any, eps: float, rotation: Any, slots: Any, starts: Any, scaling: float, attention: Any, mlp: Any,
    mask: Any, threads: bool,
) -> None:  # fmt: skip
    """Compute a layer for the next token of rows, in place; their keys and values are written into their slots.

    Args:
        h: `[rows, hidden]`, read and written.
        norms: The weights of both norms, `[hidden]` each.
        eps: Of the norms.
        rotation: Cosines and sines of the rows' places, `[rows, size]` each.
        slots: Keys and values of the rows, `[rows, key heads, columns, size]` each.
        starts: `[rows]`: number of tokens that each row holds.
        scaling: Factor of the attention's scores.
        attention: `Linear` of queries, keys, values, and output.
        mlp: `Linear` of gate, up and down.
        mask: `[rows, ranks]`: which adapters' ranks are a row's; `[rows, 0]` without adapters.
        threads: As for `multiply`.
    """
    keys, values = slots
    rows, key_heads, size = h.shape[0], keys.shape[1], keys.shape[3]
    # 1) queries, keys and values
    x = _normed(h, norms[0], eps)
    q = _linear(attention[0], x, mask, threads).reshape(rows, -1, size)
    k = _linear(attention[1], x, mask, threads).reshape(rows, key_heads, size)
    v = _linear(attention[2], x, mask, threads).reshape(rows, key_heads, size)
    _rotated(q, rotation[0], rotation[1])
    _rotated(k, rotation[0], rotation[1])
    for r in range(rows):
        for n in range(key_heads):
            keys[r, n, starts[r]] = k[r, n]
            values[r, n, starts[r]] = v[r, n]
    # 2) attention
    h += _linear(attention[3], _attended(q, keys, values, starts, scaling).reshape(rows, -1), mask, threads)
    # 3) gated linear unit (SiLU)
    x = _normed(h, norms[1], eps)
    gate, up = _linear(mlp[0], x, mask, threads), _linear(mlp[1], x, mask, threads)
    for r in range(rows):
        for i in range(gate.shape[1]):
            up[r, i] *= gate[r, i] / (1 + np.exp(-gate[r, i]))
    h += _linear(mlp[2], up, mask, threads)


@cache
def compile_all() -> None:
    """Compile what is not on disk yet, which takes some seconds: else the first answer would wait for it."""
    _is_safe()
    one, few = np.ones((1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    linear: Linear = (one.astype(np.int8)[..., None], one, one[0], one[:0], one[:0])
    layer(
        one.copy(), (one[0], one[0]), 1.0, (one, one), (few, few.copy()), np.zeros(1, np.int64), 1.0,
        (linear,) * 4, (linear,) * 3, one[:, :0].copy(), False,
    )  # fmt: skip


def has_threads(wanted: int) -> bool:
    """Let this thread's kernels use some threads; return whether they can, while others do the same.

    Numba's own layer of threads can't, and ends the process. The others need OpenMP (libgomp) or TBB.
    """
    if not _is_safe():
        return False
    numba.set_num_threads(min(wanted, _config.NUMBA_NUM_THREADS))
    return True


@cache
def _is_safe() -> bool:
    _config.THREADING_LAYER = "threadsafe"
    one = np.zeros((1, 1, 1), np.float32)
    try:
        _multiply_in_threads(one.astype(np.int8), one[0], one, one[0].copy())
    except ValueError:
        return False
    return True
