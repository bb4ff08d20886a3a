"""The planner's law for a corpus that has none of its own, fitted on several corpora that do.

    python experiments/fit_small_law.py [--home DIR] [--minutes 5]

On each corpus a ladder of small runs is trained, as `bloomery plan --calibrate` does. One law is fitted to all of them,

    bits per byte = E + A / N^alpha + B / D^beta

by its method, prior included. Then each corpus is left out once, and predicted by the law of the others: that is how
far a plan of an unknown corpus may be off, and what its interval has to hold. Prints the constants for
`planning/law.py`. N: parameters of the attention and feed-forward matrices; D: bytes of text seen, repeats discounted.
What this does not know: sizes and lengths beyond minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import data, keep, scratch_home

from bloomery.core.progress import ProgressView
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import Tokenizer, TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import PretrainConfig
from bloomery.training.planning.calibration import PRIOR, CalibrationConfig, calibrate
from bloomery.training.planning.fitting import fit_law
from bloomery.training.planning.law import DEFAULT_LAW, ScalingLaw, effective_data
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
Measured = dict[str, Any]


def measure(workspace: Workspace, name: str, minutes: float) -> Measured:
    """One corpus: the points of its ladder, (n, 3): N, D, bits per byte."""
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
    print(f"{name}: {request.text_bytes:,} bytes", flush=True)
    for size, seen, bits in points:
        print(f"    N {size:9,.0f}  D {seen:11,.0f}  {bits:.4f}", flush=True)
    return {"name": name, "bytes": request.text_bytes, "points": points}


def joint(found: list[Measured]) -> ScalingLaw:
    """The law of several corpora."""
    return fit_law(np.concatenate([np.array(one["points"]) for one in found]), prior=PRIOR)


def errors(law: ScalingLaw, one: Measured) -> list[float]:
    """Predicted over observed, less one, at each point of a corpus."""
    return [law.loss(size, seen) / bits - 1 for size, seen, bits in one["points"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each corpus' ladder")
    options = parser.parse_args()
    with scratch_home(options.home) as home:
        workspace = Workspace(Path(home), listeners=[ProgressView()])
        found = [measure(workspace, name, options.minutes) for name in SOURCES]
    law = joint(found)
    constants = {name: float(f"{value:.4g}") for name, value in law.constants.items()}
    print(json.dumps({**constants, "largest_parameters": law.largest_parameters, "largest_data": law.largest_data}))
    held = {one["name"]: errors(joint([other for other in found if other is not one]), one) for one in found}
    before = {one["name"]: errors(DEFAULT_LAW, one) for one in found}
    for name, off in held.items():
        both = (("by the others", off), ("by the constants in use", before[name]))
        told = (f"{kind} {np.mean(x):+.1%} ({min(x):+.1%} to {max(x):+.1%})" for kind, x in both)
        print(f"{name}: {', '.join(told)}")
    keep("small_law", {"constants": constants, "corpora": found, "held_out": held, "in_use": before})


if __name__ == "__main__":
    main()
