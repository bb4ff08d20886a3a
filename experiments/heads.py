"""Heads: when a small causal model learns to look at what followed the last time (induction), by layer and head.

    python experiments/heads.py [--steps N] [--seeds N]

Trains models of one and two layers (Llama's architecture, 64 wide, 4 heads a layer) on passages of the standard
library's Python source and, in turn with them, random letters and digits, said twice: text in which looking back
pays. Measures each head's induction score as training goes on: the attention from a token of a random sequence's
second half to the token after its first occurrence (Olsson et al., arXiv 2209.11895), and the loss on that half beside
the loss on the first. One layer cannot do it: a head that copies needs one before it that moved the previous token.
What this does not know: whether the same heads do it in real text.
"""

from __future__ import annotations

import argparse
import string
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import SEEDS, keep, over_seeds, run_arms, scratch_home, shown, stdlib_sources, write_jsonl

if TYPE_CHECKING:
    from bloomery.models import Decoder

LAYERS, HIDDEN, HEADS = (1, 2), 64, 4
VOCABULARY, CONTEXT, BATCH = 512, 128, 16
LOOKS = 30
PASSAGE = 200
CHARACTERS = string.ascii_letters + string.digits
REPEATED = 2
"""Random texts after each passage."""
LOOKED_AT = 32
"""Random characters that come twice when the heads are looked at."""


def documents() -> Iterator[str]:
    """Passages of source, and after each one random characters, each once, and the same again."""
    rng = np.random.default_rng(0)
    for text in stdlib_sources():
        part = ""
        for line in text.splitlines(keepends=True):
            part += line
            if len(part) >= PASSAGE:
                yield part
                for count in rng.integers(8, 49, REPEATED):
                    chosen = " ".join(rng.permutation(list(CHARACTERS))[:count])
                    yield f" {chosen} {chosen}"
                part = ""


def look(model: Decoder, characters: list[int]) -> dict[str, Any]:
    """Every head's score, and the loss on random characters' tokens and on the same again."""
    import torch
    import torch.nn.functional as F

    from bloomery.models.head_scores import induction_scores

    scores = induction_scores(model, length=LOOKED_AT, rows=16, seed=1, drawn_from=characters)
    drawn = torch.randint(0, len(characters), (32, LOOKED_AT), generator=torch.Generator().manual_seed(1))
    half = torch.tensor(characters)[drawn]
    ids = torch.cat([half, half], dim=1)
    with torch.no_grad():
        nats = F.cross_entropy(model(ids)[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").mean(0)
    return {
        "scores": [[round(float(x), 4) for x in row] for row in scores],
        "nats_first": float(nats[: LOOKED_AT - 1].mean()),
        "nats_second": float(nats[LOOKED_AT:].mean()),
    }


def one(home: str, tokens: str, tokenizer: str, layers: int, seed: int, steps: int) -> dict[str, Any]:
    """Train one model; its scores at every look."""
    import torch

    from bloomery.core.run import Run
    from bloomery.core.stage import StageInputs
    from bloomery.core.workspace import Workspace
    from bloomery.energy import open_meter
    from bloomery.tokenizer import PackedRows, Tokenizer, TokenShards
    from bloomery.training.building import NetConfig, build
    from bloomery.training.causal import CausalObjective
    from bloomery.training.fit import FitConfig, fit
    from bloomery.training.objective import Validation

    workspace = Workspace(home)
    codec = Tokenizer.load(workspace.find(tokenizer).path)
    shards = workspace.find(tokens)
    characters = [codec.encode(f" {one}")[-1] for one in CHARACTERS]
    looks: list[dict[str, Any]] = []

    class Watched(CausalObjective):
        """The causal objective, whose validation also looks at the heads."""

        def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
            found = super().validate(batches, device, precision)
            looks.append({"step": self.steps_done, "bits_per_byte": found.value, **look(self.model, characters)})
            return found

        @property
        def steps_done(self) -> int:
            return self.rows.stats["rows"] // BATCH  # type: ignore[return-value]

    torch.manual_seed(seed)
    net = NetConfig(family="llama", hidden_size=HIDDEN, num_hidden_layers=layers, num_attention_heads=HEADS)
    model = build("causal", net, codec, context_length=CONTEXT)
    rows = PackedRows(TokenShards(shards, "train"), context_length=CONTEXT, seed=seed)
    objective = Watched(model, rows, TokenShards(shards, "validation"), validation_rows=16)  # type: ignore[arg-type]
    config = FitConfig(
        steps=steps,
        batch_rows=BATCH,
        seed=seed,
        validations=LOOKS - 1,
        validation_batches=2,
        precision="float32",
        device="cpu",
        checkpoint_seconds=1e9,
    )
    inputs = StageInputs(stage="experiment-heads", config={"layers": layers, "steps": steps}, seed=seed)
    with Run(workspace, inputs, meter=open_meter()) as run:
        fitted = fit(run, objective, config)
    last = looks[-1]
    best = max(max(row) for row in last["scores"])
    print(f"{layers} layers, seed {seed}: best head {best:.3f}, bits per byte {last['bits_per_byte']:.3f}", flush=True)
    return {"layers": layers, "seed": seed, "looks": looks, "training_seconds": fitted.metrics["training_seconds"]}


def rise(looks: list[dict[str, Any]]) -> int:
    """The first step at which the best head's score is above half of what it reaches in the end, or 0: never .3."""
    best = [max(max(row) for row in look["scores"]) for look in looks]
    if best[-1] < 0.3:
        return 0
    return next(look["step"] for look, value in zip(looks, best, strict=True) if value >= best[-1] / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--layers", default=",".join(map(str, LAYERS)))
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    layers = [int(number) for number in options.layers.split(",")]
    with scratch_home(options.home) as home:
        from bloomery.corpus import CurateConfig, curate
        from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer

        path = write_jsonl(Path(home) / "source.jsonl", ({"text": text} for text in documents()))
        settings = CurateConfig(
            sources=(str(path),), validation_fraction=0.02, test_fraction=0.0, decontaminate_words=0
        )
        corpus = curate(config=settings, workspace=home)
        tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=VOCABULARY), workspace=home)
        tokens = tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home)
        arms = [
            (home, tokens.id, tokenizer.id, count, seed, options.steps)
            for seed in range(options.seeds)
            for count in sorted(layers, reverse=True)
        ]
        found = run_arms(one, arms, jobs=options.jobs, settings=[HIDDEN, HEADS, VOCABULARY, CONTEXT, BATCH])
    table = {}
    for count in layers:
        mine = [arm["looks"] for arm in found if arm["layers"] == count]
        table[str(count)] = {
            "best_head": over_seeds([max(max(row) for row in looks[-1]["scores"]) for looks in mine]),
            "gain": over_seeds([looks[-1]["nats_first"] - looks[-1]["nats_second"] for looks in mine]),
            "bits_per_byte": over_seeds([looks[-1]["bits_per_byte"] for looks in mine]),
            "rise_steps": [rise(looks) for looks in mine],
        }
        row = table[str(count)]
        print(
            f"{count} layers: best head {shown(row['best_head'])}, nats gained {shown(row['gain'])}", row["rise_steps"]
        )
    if options.layers == parser.get_default("layers"):
        sizes = {
            "steps": options.steps,
            "seeds": options.seeds,
            "batch": BATCH,
            "context": CONTEXT,
            "hidden": HIDDEN,
            "heads": HEADS,
            "looked_at": LOOKED_AT,
            "repeated": REPEATED,
        }
        keep("heads", {**sizes, "arms": found, "table": table})


if __name__ == "__main__":
    main()
