"""Golden loss curves: a short training run against the losses that were kept, step by step.

    python experiments/compare_loss_curves.py            # compares; exit code 1 where a step is off
    python experiments/compare_loss_curves.py --write   # keeps a new curve and its tolerance, after a change on purpose

Shards, packing, the model, the loss, both optimisers, the schedule and the loop of 60 steps, float32 on the processor,
of a sequence that is computed here, so that nothing but training code can move it. Other processors sum in other
orders. What that may do is measured when a curve is kept: every initial weight is moved by one unit in its last place,
up or down, five times over; the tolerance is ten times the largest difference that this makes at any step (a sum of a
thousand products is a few such units off, not one). `tests/golden/test_loss_curve.py` runs the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEPT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "loss_curve.json"
STEPS, VOCAB, CONTEXT, ROWS = 60, 97, 48, 8
NUDGES = 5
FACTOR = 10.0


def documents(count: int, seed: int) -> list[list[int]]:
    """Token ids of a language with something to learn: each id decides the four that may follow it."""
    state, made = seed, []
    for _ in range(count):
        ids, last = [], 1
        for _ in range(120):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            last = (last * 5 + (state >> 60) % 4) % (VOCAB - 1) + 1
            ids.append(last)
        made.append(ids)
    return made


def curve(*, nudge: int = 0, rate: float = 1.0) -> list[float]:
    """The loss of every step. `nudge` other than 0 moves every initial weight by a unit in its last place, `rate`
    multiplies the learning rates."""
    import torch

    from bloomery.core.run import Run
    from bloomery.core.stage import StageInputs
    from bloomery.core.workspace import Workspace
    from bloomery.models import Decoder, ModelConfig
    from bloomery.tokenizer import PackedRows, TokenShards
    from bloomery.tokenizer.shards import ShardWriter
    from bloomery.training.causal import CausalObjective
    from bloomery.training.loop import Loop, LoopConfig
    from bloomery.training.optimizers import OptimizerConfig, Optimizers
    from bloomery.training.schedule import Schedule

    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        with ShardWriter(Path(folder), vocab_size=VOCAB, bos_id=0, end_id=0) as writer:
            writer.begin("train")
            for ids in documents(200, 1):
                writer.add("train", [0, *ids], text_bytes=len(ids))
            writer.close()
        torch.manual_seed(0)
        model = Decoder(
            ModelConfig(
                model_type="qwen3",
                vocab_size=VOCAB,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                intermediate_size=128,
                head_dim=32,
                max_position_embeddings=CONTEXT,
                tie_word_embeddings=False,
                bos_token_id=0,
                eos_token_id=(0,),
            )
        )
        if nudge:
            _nudge(model, nudge)
        settings = OptimizerConfig()
        scaled = {n: getattr(settings, n) * rate for n in vars(settings) if n.endswith("_lr")}
        workspace = Workspace(Path(folder) / "home", listeners=[lambda event: _hear(event, losses)])
        with Run(workspace, StageInputs(stage="curve", config={"nudge": nudge, "rate": rate})) as run:
            rows = PackedRows(TokenShards(folder, "train"), context_length=CONTEXT, seed=0)
            Loop(
                run,
                CausalObjective(model, rows, None),
                Optimizers(model, OptimizerConfig(**scaled)),
                Schedule(total_steps=STEPS, warmup_steps=4, decay_steps=30),
                LoopConfig(validate_every_steps=0, validation_batches=0, checkpoint_seconds=1e9),
                batch_rows=ROWS,
                micro_rows=ROWS // 2,
                precision="float32",
                device=torch.device("cpu"),
            ).train()
        workspace.ledger.close()
    return losses


def differences(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Relative, step by step."""
    return [abs(a - b) / abs(b) for a, b in zip(one, other, strict=True)]


def verdict(made: Sequence[float], kept: dict[str, Any]) -> str:
    """What is off, in a line; "" if nothing is."""
    off = differences(made, kept["losses"])
    worst = max(range(len(off)), key=off.__getitem__)
    if off[worst] <= kept["tolerance"]:
        return ""
    first = next(n for n, value in enumerate(off) if value > kept["tolerance"])
    return (
        f"step {first + 1} is the first that is off, step {worst + 1} the most: {made[worst]:.6f} where "
        f"{kept['losses'][worst]:.6f} was kept ({off[worst]:.2e}; tolerance {kept['tolerance']:.2e})"
    )


def _hear(event: Any, losses: list[float]) -> None:
    if event.kind == "curve":
        losses.append(event.data["loss"])


def _nudge(model: Any, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            up = torch.rand(value.shape, generator=generator) < 0.5
            towards = torch.where(up, torch.inf, -torch.inf)
            value.copy_(torch.nextafter(value, towards))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    made = curve()
    if given.write:
        spread = max(max(differences(curve(nudge=n + 1), made)) for n in range(NUDGES))
        kept = {"written_by": "experiments/compare_loss_curves.py --write", "spread": spread}
        kept |= {"tolerance": FACTOR * spread, "losses": made}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"kept {len(made)} losses, {made[0]:.4f} to {made[-1]:.4f}; spread {spread:.2e}")
        return 0
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    off = verdict(made, kept)
    worst = max(differences(made, kept["losses"]))
    print(off or f"{len(made)} losses as kept: at most {worst:.2e} off, tolerance {kept['tolerance']:.2e}")
    return 1 if off else 0


if __name__ == "__main__":
    raise SystemExit(main())
