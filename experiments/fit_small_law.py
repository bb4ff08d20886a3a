"""The planner's law, fitted: bits per byte of small models on the documentation of Python.

    python experiments/fit_small_law.py [--home DIR]

Trains six small models by the ordinary stage (about six minutes on two cores), fits

    bits per byte = E + A / N^alpha + B / D^beta

by Huber loss on log bits per byte, as Hoffmann et al. (2022) did, and prints the table, the constants that
`bloomery/training/planner.py` holds, and how far the fit is off. N: parameters of the attention and feed-forward
matrices; D: bytes of text seen, repeats discounted. What this does not know: any other corpus or size.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from scipy.optimize import least_squares

from bloomery.core.workspace import Workspace
from bloomery.corpus import curate
from bloomery.tokenizer import Tokenizer, tokenize, train_tokenizer
from bloomery.training import PretrainConfig, pretrain
from bloomery.training.planner import effective_data, matrix_parameters
from bloomery.training.pretrain import plan_request

LADDER = [(2, 128, 80), (2, 128, 250), (2, 128, 800), (4, 256, 80), (4, 256, 250), (4, 256, 600)]


def measure(workspace: Workspace) -> np.ndarray:
    """(runs, 3): N, D, bits per byte on validation."""
    corpus = curate(workspace=workspace)
    tokenizer = train_tokenizer(corpus, workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    codec, points = Tokenizer.load(tokenizer.path), []
    for layers, hidden, steps in LADDER:
        config = PretrainConfig(num_hidden_layers=layers, hidden_size=hidden, steps=steps, batch_rows=16, validations=0)
        model = pretrain(corpus, tokenizer, tokens=tokens, config=config, workspace=workspace)
        request = plan_request(config, tokens, codec)
        seen = model.metrics["tokens"] * request.text_bytes / request.tokens
        size = matrix_parameters(request.base)
        points.append((size, effective_data(seen, request.text_bytes), model.metrics["validation_bits_per_byte"]))
        print(
            f"{layers} x {hidden}, {steps:4} steps: N {size:,}, D {seen:,.0f}, {points[-1][2]:.4f} bits per byte",
            flush=True,
        )
    return np.array(points)


def fit(points: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The constants and the relative residuals."""
    size, data, observed = points.T

    def predicted(x: np.ndarray) -> np.ndarray:
        return x[0] + np.exp(x[1]) / size ** x[2] + np.exp(x[3]) / data ** x[4]

    def residual(x: np.ndarray) -> np.ndarray:
        return np.log(predicted(x)) - np.log(observed)

    best = None
    for start in [(e, a, 0.35, b, c) for e in (0.5, 1.0) for a in (2.0, 4.0) for b in (3.0, 6.0) for c in (0.3, 0.5)]:
        bounds = ([0.2, -5, 0.15, -5, 0.15], [1.4, 12, 0.8, 16, 0.9])
        found = least_squares(residual, start, loss="huber", f_scale=1e-3, bounds=bounds, max_nfev=20000)
        best = found if best is None or found.cost < best.cost else best
    assert best is not None
    e, a, alpha, b, beta = best.x
    constants = {"E": e, "A": float(np.exp(a)), "alpha": alpha, "B": float(np.exp(b)), "beta": beta}
    return constants, predicted(best.x) / observed - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", default=None)
    points = measure(Workspace(parser.parse_args().home))
    constants, off = fit(points)
    print(json.dumps({name: float(f"{value:.4g}") for name, value in constants.items()}))
    print(f"off by {np.abs(off).max():.1%} at most, {np.abs(off).mean():.1%} on average, over {len(off)} runs")


if __name__ == "__main__":
    main()
