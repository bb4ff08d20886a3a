"""Orthogonal: matrices brought near the orthogonal factor of their polar decomposition, by polynomials of matrices.

Newton-Schulz with Keller Jordan's coefficients (2024), or the polynomials of Polar Express (Amsel et al., arXiv
2505.16932), each of which is the best for the interval of singular values that the one before leaves. X_(k + 1) =
(a + b A + c A A) X_k with A = X_k X_k^T can be computed as it stands, or on the small square matrix A alone with one
product at the end, which is cheaper where one side is more than about twice the other. This module does not know
optimisers. Shapes: N matrices of R rows and C columns, R <= C after transposing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError, nearest

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""They maximise the slope at zero and bring singular values into about [.7, 1.2] rather than exactly to one."""
_POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""The paper's, for five iterations with a safety factor of 1.02, from singular values of .001 on."""
POLYNOMIALS = ("newton_schulz", "polar_express")
MAX_ITERATIONS = len(_POLAR_EXPRESS)
_SAFETY = 1.02
_EPSILON = 1e-7
_CPU_BYTES = 4 * 1024 * 1024
_LEAST = 4
"""Matrices at a time: enough for a processor's cores, and few enough for its caches. Many small ones at once take up to
half as long again."""


def coefficients(polynomial: str, iterations: int) -> tuple[tuple[float, float, float], ...]:
    """(a, b, c) of each iteration. Fewer than five of Polar Express are its first ones and its last: the first widen
    small singular values, the last draws all near one. ConfigError for another name or number."""
    if polynomial not in POLYNOMIALS:
        raise ConfigError(f"unknown polynomial {polynomial!r:.60}", hint=nearest(polynomial, POLYNOMIALS))
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise ConfigError(f"iterations should be from 1 to {MAX_ITERATIONS}, not {iterations}")
    if polynomial == "newton_schulz":
        return (_NEWTON_SCHULZ,) * iterations
    return (*_POLAR_EXPRESS[: iterations - 1], _POLAR_EXPRESS[-1])


def orthogonalize(
    matrices: Tensor,
    *,
    polynomial: str = "newton_schulz",
    iterations: int = 5,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Bring the singular values of a batch of matrices (N, R, C) near one, keeping their singular vectors.

    Iterations in `dtype`, one of POLYNOMIALS; returns that dtype.
    """
    steps = coefficients(polynomial, iterations)
    together = at_a_time(*matrices.shape, device=matrices.device.type)
    if together == len(matrices):
        return _orthogonal(matrices, steps, polynomial, dtype)
    made = torch.empty(matrices.shape, dtype=dtype)
    for part, out in zip(matrices.split(together), made.split(together), strict=True):
        out.copy_(_orthogonal(part, steps, polynomial, dtype))
    return made


def at_a_time(count: int, rows: int, columns: int, *, device: str) -> int:
    """How many of `count` matrices are orthogonalised at a time: on a CPU those that its caches have room for, where
    they are at least twice as many; elsewhere all."""
    short, long = sorted((rows, columns))
    few = max(_LEAST, _CPU_BYTES // (4 * (4 * short * short + 2 * short * long)))
    return few if device == "cpu" and count >= 2 * few else count


def _orthogonal(
    matrices: Tensor, steps: tuple[tuple[float, float, float], ...], polynomial: str, dtype: torch.dtype
) -> Tensor:
    iterations = len(steps)
    x = matrices.to(dtype)
    transposed = x.size(-2) > x.size(-1)
    if transposed:
        x = x.mT
    norm = x.norm(dim=(-2, -1), keepdim=True)
    x = x / (norm * (_SAFETY if polynomial == "polar_express" else 1.0) + _EPSILON)
    # Squaring the matrix squares what rounding does to small singular values: float32 bears it, bfloat16 does not.
    by_gram = dtype == torch.float32 and gram_flops(x.size(-2), x.size(-1), iterations) < direct_flops(
        x.size(-2), x.size(-1), iterations
    )
    x = _by_gram(x, steps) if by_gram else _direct(x, steps)
    return x.mT if transposed else x


def direct_flops(rows: int, columns: int, iterations: int) -> int:
    """Operations on one matrix as it stands: A, A A and a product with X, each iteration."""
    return iterations * (4 * rows * rows * columns + 2 * rows**3)


def gram_flops(rows: int, columns: int, iterations: int) -> int:
    """Operations on A alone: A A, the product of the polynomials so far, and A of the next iteration."""
    squares = iterations + (iterations - 1) + 2 * (iterations - 1)
    return 4 * rows * rows * columns + squares * 2 * rows**3


def _direct(x: Tensor, steps: tuple[tuple[float, float, float], ...]) -> Tensor:
    for a, b, c in steps:
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _by_gram(x: Tensor, steps: tuple[tuple[float, float, float], ...]) -> Tensor:
    gram, whole = x @ x.mT, None
    for number, (a, b, c) in enumerate(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        whole = factor if whole is None else factor @ whole
        if number + 1 < len(steps):  # they commute: A of the next iteration is P A P
            gram = factor @ (gram @ factor)
    assert whole is not None
    return whole @ x
