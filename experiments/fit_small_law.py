"""The planner's law, fitted: bits per byte of small models on the documentation of Python.

    python experiments/fit_small_law.py [--home DIR]

Trains six small models by the ordinary stage (about six minutes on two cores), fits

    bits per byte = E + A / N^alpha + B / D^beta

as `bloomery plan --calibrate` does, its prior included, and prints the table, the constants for
`bloomery/training/planning/law.py`, and how far the fit is off. N: parameters of the attention and feed-forward
matrices; D: bytes of text seen, repeats discounted. What this does not know: any other corpus or size.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from bloomery.core.workspace import Workspace
from bloomery.corpus import curate
from bloomery.tokenizer import Tokenizer, tokenize, train_tokenizer
from bloomery.training import PretrainConfig, pretrain
from bloomery.training.planning.calibration import PRIOR
from bloomery.training.planning.fitting import fit_law
from bloomery.training.planning.law import effective_data
from bloomery.training.planning.shapes import matrix_parameters
from bloomery.training.pretrain_config import plan_request

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
    law = fit_law(points, prior=PRIOR)
    return law.constants, np.array([law.loss(size, data) / observed - 1 for size, data, observed in points])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", default=None)
    points = measure(Workspace(parser.parse_args().home))
    constants, off = fit(points)
    print(json.dumps({name: float(f"{value:.4g}") for name, value in constants.items()}))
    print(f"off by {np.abs(off).max():.1%} at most, {np.abs(off).mean():.1%} on average, over {len(off)} runs")


if __name__ == "__main__":
    main()
