"""MinHash kernels: signatures a second, and how far recall is from the curve, of ours, datasketch and rensa.

    pip install rensa          # it is no dependency; without it, it is left out
    python benchmarks/bench_minhash.py

All get the same sets of hashes, in turn, on one core; rates are processor time of the kernel alone. Recall of 14 bands
of 8 is that of pairs of exactly known similarity, and is printed as its distance from 1 - (1 - s**8)**14 in standard
errors: a kernel on the curve has seven numbers of about 1, squares that sum to about 7 (16 is one in fifty). A sketch
whose values are not drawn each on its own, as rensa's, is not on it; how far depends on the size of the sets.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.minhash import Signer, s_curve

BANDS, ROWS = 14, 8
SIMILARITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
PAIRS = 10_000
Kernel = Callable[[NDArray[np.uint64]], NDArray[np.uint64]]


def kernels() -> dict[str, Kernel]:
    """By name what makes (sets, 112) signatures of (sets, elements) hashes."""
    import datasketch

    signer = Signer(bands=BANDS, rows=ROWS)

    def ours(sets: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return signer.signatures_of_shingles(sets.ravel(), np.full(len(sets), sets.shape[1]))[0].astype(np.uint64)

    def theirs(sets: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low = sets >> np.uint64(32)  # what it would hash to 32 bits is random already
        one = datasketch.MinHash(num_perm=BANDS * ROWS, seed=1, hashfunc=int)
        made = [one.copy() for _ in sets]
        for each, row in zip(made, low.tolist(), strict=True):
            each.update_batch(row)
        return np.array([each.hashvalues for each in made], np.uint64)

    found: dict[str, Kernel] = {"ours": ours, f"datasketch {version('datasketch')}": theirs}
    try:
        import rensa
    except ImportError:
        return found

    def sketch(sets: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return np.array(rensa.RMinHash.digest_matrix_from_token_hash_sets(sets.tolist(), 112, 42).to_rows(), np.uint64)

    return {**found, f"rensa {version('rensa')}": sketch}


def pairs(rng: np.random.Generator, similarity: float, union: int) -> list[NDArray[np.uint64]]:
    """Two arrays of sets, row by row of exactly this similarity."""
    shared = round(similarity * union)
    own = (union - shared) // 2
    elements = rng.integers(0, 1 << 63, size=(PAIRS, union), dtype=np.uint64) * np.uint64(2)
    return [elements[:, : shared + own], np.delete(elements, np.s_[shared : shared + own], axis=1)]


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    for union in (20, 40, 200):
        for name, kernel in kernels().items():
            rng, errors, seconds, sets = np.random.default_rng(union), [], 0.0, 0
            for similarity in SIMILARITIES:
                shared = round(similarity * union)
                shared -= (union - shared) % 2
                both = pairs(rng, shared / union, union)
                began = time.process_time()
                one, other = (kernel(side).reshape(PAIRS, BANDS, ROWS) for side in both)
                seconds += time.process_time() - began
                sets += 2 * PAIRS
                expected = s_curve(shared / union, bands=BANDS, rows=ROWS)
                found = (one == other).all(axis=2).any(axis=1).mean()
                errors.append((found - expected) / np.sqrt(expected * (1 - expected) / PAIRS))
            squares = sum(error**2 for error in errors)
            said = " ".join(f"{error:+.1f}" for error in errors)
            print(f"unions of {union}, {name}: {sets / seconds:,.0f} sets/s; {said}; squares {squares:.0f}")


if __name__ == "__main__":
    main()
