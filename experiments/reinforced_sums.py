"""Reinforced sums: what checking answers teaches a small model beyond what its examples taught it.

    python experiments/reinforced_sums.py [--seeds N] [--steps N]

A decoder (Qwen3's architecture, 2 layers, 96 wide) learns sums of two numbers below 100 from a few thousand worked
examples, for so short a time that it is often wrong. Then it sees other sums without their results: eight answers are
drawn for each, and the right ones made likelier. GRPO (Shao et al. 2024), Dr. GRPO (Liu et al. 2025), and as a control
rewards drawn at random, which must not help. Every seed has its own weights, examples and draws; the score is the share
of greedy answers that are right, on sums that neither training had. What this does not know: larger models, rewards that
can be gamed, and what the same time spent on more examples would give beyond the arm "examples", which goes on with the
worked examples for as many steps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import SEEDS, keep, over_seeds, run_arms, scratch_home, shown

EXAMPLES, ASKED, BELOW = 4000, 4000, 100
"""Sums that are worked, sums that are asked (an eighth of which is held out), and what both numbers are below."""
LEARNT_STEPS, GROUP, ROWS = 900, 8, 128
ARMS: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "Dr. GRPO": {"scale": "none", "average": "constant"},
    "random rewards": {"rewards": ("pattern:.**0",)},
}
EXAMPLES_ARM = "more examples"


class Chance:
    """A reward that knows nothing: half of all answers, by a hash of the sum and the answer."""

    name = "chance"

    def __call__(self, answer: str, row: Mapping[str, Any]) -> float:
        return float(hashlib.sha256(f"{row['prompt']} {answer}".encode()).digest()[0] % 2)


def problems(seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Sums that are worked, and others that are asked."""
    pairs = [(a, b) for a in range(BELOW) for b in range(BELOW)]
    random.Random(seed).shuffle(pairs)
    rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b), "completion": str(a + b)} for a, b in pairs]
    return rows[:EXAMPLES], rows[EXAMPLES : EXAMPLES + ASKED]


def beginner(home: Path, seed: int) -> Any:
    """A random model and its tokenizer, as an artifact."""
    import torch

    from bloomery.engine.exchange import import_model
    from bloomery.models import Decoder, ModelConfig
    from bloomery.models.pretrained import save_pretrained
    from bloomery.tokenizer import Tokenizer, TokenizerConfig
    from bloomery.tokenizer.train import learn, write_tokenizer

    folder = home / f"random-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(learn(["user\nassistant\n"] * 8, TokenizerConfig(vocab_size=300)), folder)
    tokenizer = Tokenizer.load(folder)
    torch.manual_seed(seed)
    config = ModelConfig(
        model_type="qwen3",
        vocab_size=tokenizer.vocab_size,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=256,
        head_dim=24,
        max_position_embeddings=48,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_ids,
    )
    save_pretrained(Decoder(config), folder)
    tokenizer.save(folder)
    return import_model(folder, workspace=home / "home")


def taught(home: Path, start: Any, rows: list[dict[str, str]], seed: int, steps: int, rate: float) -> Any:
    """The model after so many steps on worked examples."""
    from bloomery.adapt.preference.encoded import encode_completion
    from bloomery.adapt.distillation.student import StudentObjective, Taught
    from bloomery.adapt.starting import Start
    from bloomery.core.run import Run
    from bloomery.core.stage import StageInputs
    from bloomery.core.workspace import Workspace
    from bloomery.training.fit import FitConfig, fit
    from bloomery.training.loader import ExampleLoader

    config = FitConfig(
        steps=steps,
        batch_rows=64,
        optimizer="adamw",
        learning_rate=rate,
        weight_decay=0.0,
        max_norm=1.0,
        validations=0,
        seed=seed,
        device="cpu",
    )
    inputs = StageInputs(stage="examples", config={"steps": steps, "rate": rate}, parents=(start.id,), seed=seed)
    with Run(Workspace(home / "home"), inputs) as run:
        begun = Start.of(start)
        texts = [Taught(encode_completion(begun.tokenizer, row["prompt"], row["completion"])) for row in rows]
        objective = StudentObjective(begun.decoder, ExampleLoader(texts, [], rows=64, seed=seed), seed=seed)
        fit(run, objective, config)
        return run.publish(begun.save(run), kind="model")


def accuracy(model: Any, rows: list[dict[str, str]], seed: int) -> float:
    """Greedy answers to the sums that `reinforce` holds out for this seed."""
    from bloomery.adapt.reinforcement.config import ReinforceConfig
    from bloomery.adapt.reinforcement.reinforce import _questions
    from bloomery.adapt.preference.prefer import split
    from bloomery.adapt.reinforcement.rewards import number
    from bloomery.adapt.reinforcement.rollouts import Drawer
    from bloomery.adapt.starting import Start

    begun = Start.of(model)
    questions, _ = _questions(begun, rows, ReinforceConfig(max_new_tokens=6))
    held, _ = split([one.prompt for one in questions], 0.125, seed)
    drawer = Drawer(begun.decoder, begun.tokenizer, max_new_tokens=6, cache_tokens=48 * 256)
    drawn = drawer.draw([questions[n].prompt for n in held], 1, temperature=0.0, seed=0)
    drawer.close()
    return sum(number(one.text, questions[held[one.place]].row) for one in drawn) / len(held)


def one(home: str, seed: int, arm: str, steps: int) -> dict[str, Any]:
    """One arm of one seed."""
    from bloomery.adapt.reinforcement import ReinforceConfig, reinforce
    from bloomery.training.fit import FitConfig

    root = Path(home) / f"{arm.replace(' ', '-')}-{seed}"
    worked, asked = problems(seed)
    base = taught(root, beginner(root, seed), worked, seed, LEARNT_STEPS, 2e-3)
    if arm == EXAMPLES_ARM:
        more = taught(root, base, worked, seed + 100, steps, 5e-4)
        before, after, curve = accuracy(base, asked, seed), accuracy(more, asked, seed), []
        print(arm, seed, before, after, flush=True)
        return {"arm": arm, "seed": seed, "before": before, "after": after, "curve": curve}
    fit = FitConfig(
        steps=steps,
        batch_rows=ROWS,
        optimizer="adamw",
        learning_rate=5e-4,
        weight_decay=0.0,
        max_norm=1.0,
        validations=9,
        validation_batches=10_000,
        seed=seed,
        device="cpu",
    )
    settings: dict[str, Any] = {"group": GROUP, "max_new_tokens": 6, "validation_fraction": 0.125, "fit": fit}
    config = ReinforceConfig(**{**settings, "validation_prompts": 1000, **ARMS[arm]})
    own = [Chance()] if arm == "random rewards" else []
    if own:
        config = ReinforceConfig(**{**settings, "validation_prompts": 1000, "rewards": ("number*0",)})
    made = reinforce(base, asked, config=config, rewards=own, workspace=root / "home")
    metrics = made.metrics
    key = "reward_number" if own else "reward"
    before = metrics[f"before_{key}"]
    after = metrics[f"validation_{key}"]
    print(arm, seed, before, after, metrics["training_seconds"], metrics["engine_gap_max_nats"], flush=True)
    return {
        "arm": arm,
        "seed": seed,
        "before": before,
        "after": after,
        "curve": [[step, value] for step, _, value in metrics["validation_curve"]] if not own else [],
        "rewards": [row[1] for row in metrics["reward_curve"]],
        "engine_gap_max_nats": metrics["engine_gap_max_nats"],
        "seconds": metrics["training_seconds"],
    }


def main() -> None:
    """Train, test, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    parser.add_argument("--arms", default=",".join([*ARMS, EXAMPLES_ARM]))
    options = parser.parse_args()
    names = options.arms.split(",")
    with scratch_home(options.home) as home:
        arms = [(home, seed, arm, options.steps) for seed in range(options.seeds) for arm in names]
        found = run_arms(one, arms, jobs=options.jobs)
    table = {}
    for arm in names:
        mine = [row for row in found if row["arm"] == arm]
        table[arm] = {
            "before": over_seeds([row["before"] for row in mine]),
            "after": over_seeds([row["after"] for row in mine]),
            "gain": over_seeds([row["after"] - row["before"] for row in mine]),
        }
        print(arm, json.dumps({name: shown(value, ".3f") for name, value in table[arm].items()}))
    if options.seeds == len(SEEDS) and len(names) == len(ARMS) + 1:
        keep("reinforced_sums", {"steps": options.steps, "group": GROUP, "rows": ROWS, "table": table, "arms": found})


if __name__ == "__main__":
    main()
