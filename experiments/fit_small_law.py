"""The planner's law, fitted: bits per byte of small models on the documentation of Python.

    python experiments/fit_small_law.py [--home DIR]

Trains six small models by the ordinary stage (about six minutes on two cores), fits

    bits per byte = E + A / N^alpha + B / D^beta

as `bloomery plan --calibrate` does, its prior included, and prints the table, the constants for
`bloomery/training/planning/law.py`, and how far the fit is off: on its own runs, and, beside the constants that stand
there now, on runs of a size that it has not seen. N: parameters of the attention and feed-forward matrices; D: bytes of
text seen, repeats discounted. What this does not know: any other corpus or size.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from common import keep

from bloomery.core.artifact import Artifact
from bloomery.core.workspace import Workspace
from bloomery.corpus import curate
from bloomery.tokenizer import Tokenizer, tokenize, train_tokenizer
from bloomery.training import PretrainConfig, pretrain
from bloomery.training.planning.calibration import PRIOR
from bloomery.training.planning.fitting import fit_law
from bloomery.training.planning.law import DEFAULT_LAW, ScalingLaw, effective_data
from bloomery.training.planning.shapes import matrix_parameters
from bloomery.training.pretrain_config import plan_request

# (layers, hidden size, steps)
LADDER = [(2, 128, 80), (2, 128, 250), (2, 128, 800), (4, 256, 80), (4, 256, 250), (4, 256, 600)]
HELD_OUT = [(3, 192, 150), (3, 192, 400)]


def measure(workspace: Workspace, runs: list[tuple[int, int, int]]) -> np.ndarray:
    """(runs, 3): N, D, bits per byte on validation."""
    corpus = curate(workspace=workspace)
    tokenizer = train_tokenizer(corpus, workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    return np.array([_point(workspace, corpus, tokenizer, tokens, *one) for one in runs])


def _point(
    workspace: Workspace, corpus: Artifact, tokenizer: Artifact, tokens: Artifact, layers: int, hidden: int, steps: int
) -> tuple[float, float, float]:
    config = PretrainConfig(num_hidden_layers=layers, hidden_size=hidden, steps=steps, batch_rows=16, validations=0)
    model = pretrain(corpus, tokenizer, tokens=tokens, config=config, workspace=workspace)
    request = plan_request(config, tokens, Tokenizer.load(tokenizer.path))
    seen = model.metrics["tokens"] * request.text_bytes / request.tokens
    size, bits = matrix_parameters(request.base), model.metrics["validation_bits_per_byte"]
    print(f"{layers} x {hidden}, {steps:4} steps: N {size:,}, D {seen:,.0f}, {bits:.4f} bits per byte", flush=True)
    return size, effective_data(seen, request.text_bytes), bits


def off(law: ScalingLaw, points: np.ndarray) -> list[float]:
    """How far a law is off at each run, as a share of what was observed."""
    return [law.loss(size, data) / observed - 1 for size, data, observed in points]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", default=None)
    workspace = Workspace(parser.parse_args().home)
    points, held_out = measure(workspace, LADDER), measure(workspace, HELD_OUT)
    fitted = fit_law(points, prior=PRIOR)
    constants = {name: float(f"{value:.4g}") for name, value in fitted.constants.items()}
    print(json.dumps(constants))
    told = {"constants": constants, "ladder": points.tolist(), "held_out": held_out.tolist()}
    for name, law in (("fitted", fitted), ("constants before", DEFAULT_LAW)):
        own, others = np.abs(off(law, points)), np.abs(off(law, held_out))
        print(f"{name}: off by {own.max():.1%} at most on the ladder's runs, by {others.max():.1%} on those held out")
        told[name] = {"ladder": off(law, points), "held_out": off(law, held_out)}
    keep("small_law", told)


if __name__ == "__main__":
    main()
