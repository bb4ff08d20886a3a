"""The planner's law for a corpus that has none of its own, fitted on several corpora that do.

    python experiments/fit_small_law.py [--home DIR] [--minutes 5]

On each corpus a ladder of small runs is trained, as `bloomery plan --calibrate` does. One law is fitted to all of them,

    bits per byte = (c / c0)^power (E + A / N^alpha + B / D^beta)

where c is how many bits a byte of the corpus takes when it is compressed (`planning/compressibility.py`), c0 their
geometric mean; power is the best of a grid. Then each corpus is left out once, and predicted by the law of the others,
with c and without: that is how far a plan of an unknown corpus may be off. Prints the constants for `planning/law.py`.
N: parameters of the attention and feed-forward matrices; D: bytes of text seen, repeats discounted. What this does not
know: sizes and lengths beyond minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from common import data, keep, scratch_home

from bloomery.core.progress import ProgressView
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import Tokenizer, TokenizerConfig, TokenShards, tokenize, train_tokenizer
from bloomery.training import PretrainConfig
from bloomery.training.planning.calibration import PRIOR, CalibrationConfig, calibrate
from bloomery.training.planning.compressibility import compressed_bits
from bloomery.training.planning.fitting import fit_law
from bloomery.training.planning.law import DEFAULT_LAW, ScalingLaw, effective_data, guessed_law
from bloomery.training.planning.rung import read_points
from bloomery.training.pretrain_config import plan_request

CONTEXT = 256
SOURCES: dict[str, tuple[tuple[str, ...], int]] = {
    "stories": (("tinystories", "tinystories_lower_4MB.txt.xz"), 2048),
    "python": ((), 4096),
    "plays": (("text", "tinyshakespeare.txt.xz"), 1024),
    "encyclopedia": (("text", "wikitext2_train_part.txt.xz"), 4096),
    "a novel in Japanese": (("text", "wagahaiwa_ja.txt.xz"), 2048),
}
"""Where a corpus lies (the documentation of Python is Python's own), and its vocabulary."""
POWERS = np.arange(0.0, 1.51, 0.05)
Measured = dict[str, Any]


def measure(workspace: Workspace, name: str, minutes: float) -> Measured:
    """One corpus: how it compresses, and the points of its ladder, (n, 3): N, D, bits per byte."""
    where, vocabulary = SOURCES[name]
    config = CurateConfig(sources=(str(data(*where)) if where else "python-docs",))
    corpus = curate(config.sources, config=config, workspace=workspace)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=vocabulary), workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    loaded = Tokenizer.load(tokenizer.path)
    request = plan_request(PretrainConfig(context_length=CONTEXT), tokens, loaded)
    how = CalibrationConfig(minutes=minutes)
    law = calibrate(tokens, tokenizer, request, config=how, workspace=workspace)
    rungs = [one for one in map(workspace.find, law.parents) if one.kind == "rung"]
    points = [
        (point.parameters, effective_data(point.bytes_seen, request.text_bytes), point.bits_per_byte)
        for rung in rungs
        for point in read_points(rung)
    ]
    compressed = compressed_bits(TokenShards(tokens, "train"), loaded)
    assert compressed is not None
    print(f"{name}: {request.text_bytes:,} bytes, compressed {compressed:.3f} bits a byte", flush=True)
    for size, seen, bits in points:
        print(f"    N {size:9,.0f}  D {seen:11,.0f}  {bits:.4f}", flush=True)
    return {"name": name, "bytes": request.text_bytes, "compressed": compressed, "points": points}


def scaled(found: list[Measured], power: float, reference: float) -> np.ndarray:
    """All points, their losses as if every corpus compressed as the reference does."""
    parts = []
    for one in found:
        points = np.array(one["points"])
        points[:, 2] /= (one["compressed"] / reference) ** power
        parts.append(points)
    return np.concatenate(parts)


def joint(found: list[Measured]) -> tuple[ScalingLaw, float, float]:
    """The law of several corpora, the power and the reference."""
    reference = math.exp(float(np.mean([math.log(one["compressed"]) for one in found])))
    best: tuple[float, ScalingLaw, float] | None = None
    for power in POWERS:
        points = scaled(found, float(power), reference)
        law = fit_law(points, prior=PRIOR)
        off = float(np.abs(np.log(predicted(law, points)) - np.log(points[:, 2])).sum())
        if best is None or off < best[0]:
            best = off, law, float(power)
    assert best is not None
    return best[1], best[2], reference


def predicted(law: ScalingLaw, points: np.ndarray) -> np.ndarray:
    """The law at each point's N and D."""
    return np.array([law.loss(size, seen) for size, seen, _ in points])


def errors(law: ScalingLaw, one: Measured) -> list[float]:
    """Predicted over observed, less one, at each point of a corpus."""
    points = np.array(one["points"])
    return (predicted(law, points) / points[:, 2] - 1).tolist()


def left_out(found: list[Measured]) -> dict[str, dict[str, list[float]]]:
    """Each corpus by the law of the others, with its compression and without; and by the constants in use now."""
    told: dict[str, dict[str, list[float]]] = {}
    for one in found:
        others = [other for other in found if other is not one]
        law, power, reference = joint(others)
        plain = fit_law(scaled(others, 0.0, reference), prior=PRIOR)
        told[one["name"]] = {
            "compressed": errors(law.scaled((one["compressed"] / reference) ** power), one),
            "plain": errors(plain, one),
            "in use, scaled": errors(guessed_law(one["compressed"]), one),
            "in use": errors(DEFAULT_LAW, one),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each corpus' ladder")
    options = parser.parse_args()
    with scratch_home(options.home) as home:
        workspace = Workspace(Path(home), listeners=[ProgressView()])
        found = [measure(workspace, name, options.minutes) for name in SOURCES]
    law, power, reference = joint(found)
    constants = {name: float(f"{value:.4g}") for name, value in law.constants.items()}
    largest = {"largest_parameters": law.largest_parameters, "largest_data": law.largest_data}
    print(json.dumps({**constants, "power": round(power, 2), "reference": float(f"{reference:.4g}"), **largest}))
    held = left_out(found)
    for name, kinds in held.items():
        told = (f"{kind} {np.mean(off):+.1%} ({min(off):+.1%} to {max(off):+.1%})" for kind, off in kinds.items())
        print(f"{name}: {', '.join(told)}")
    for kind in next(iter(held.values())):
        off = np.array([value for kinds in held.values() for value in kinds[kind]])
        low, high = np.percentile(off, [5, 95])
        print(f"{kind}: {np.median(np.abs(off)):.1%} in the middle, nine of ten from {low:+.1%} to {high:+.1%}")
    keep(
        "small_law",
        {"constants": constants, "power": power, "reference": reference, "corpora": found, "held_out": held},
    )


if __name__ == "__main__":
    main()
