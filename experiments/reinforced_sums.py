"""Reinforced sums: what checking answers teaches a small model that its examples did not.

    python experiments/reinforced_sums.py [--seeds N] [--steps N]

A decoder (Qwen3's architecture, 2 layers, 64 wide) learns sums of two numbers below 20 from worked examples, one in
five of which has its result in angle brackets. Then it sees sums without results: eight answers are drawn for each,
and only a right one in brackets is worth something. GRPO (Shao et al. 2024) and Dr. GRPO (Liu et al. 2025); as a
control rewards drawn at random, which must not help; and the worked examples for as many steps more. Every seed has
its own weights, examples and draws, and its arms begin with the same model; the score is the share of greedy answers
that are right and in brackets, on sums that were worked before but never rewarded. What this does not know: larger
models, sums that were never worked, and rewards that can be gamed.

Its settings are the fifth configuration that was tried, chosen by looking at seed 0's scored sums: that seed's gain is
not one on a test that nobody had seen, and the others share its settings.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import SEEDS, keep, over_seeds, run_arms, scratch_home, shown

BELOW, TIMES, BRACKETED = 20, 10, 5
"""What both numbers are below, how often each sum is worked, and once in how many times with brackets."""
HELD, TOKENS, LEARNT_STEPS, GROUP, ROWS = 0.25, 6, 400, 8, 128
"""Share of the sums that is never rewarded, tokens of an answer, steps on worked examples, answers of a sum and
step."""
ARMS: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "Dr. GRPO": {"scale": "none", "average": "constant"},
    "random rewards": {"rewards": ("exact*0",)},
}
EXAMPLES_ARM = "more examples"


class Chance:
    """A reward that knows nothing: half of all answers, by a hash of the sum and the answer."""

    name = "chance"

    def __call__(self, answer: str, row: Mapping[str, Any]) -> float:
        return float(hashlib.sha256(f"{row['prompt']} {answer}".encode()).digest()[0] % 2)


def problems() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Worked examples, and all sums to be asked."""
    asked = [
        {"prompt": f"{a}+{b}=", "answer": f"<{a + b}>", "plain": str(a + b)} for a in range(BELOW) for b in range(BELOW)
    ]
    worked = [
        {"prompt": row["prompt"], "completion": row["plain"] if time % BRACKETED else row["answer"]}
        for time in range(TIMES)
        for row in asked
    ]
    return worked, asked


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
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=172,
        head_dim=16,
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
    from bloomery.adapt.distillation.student import StudentObjective, Taught
    from bloomery.adapt.preference.encoded import encode_completion
    from bloomery.adapt.starting import Start
    from bloomery.core.run import Run
    from bloomery.core.stage import StageInputs, reusable
    from bloomery.core.workspace import Workspace
    from bloomery.training.fit import fit
    from bloomery.training.loader import ExampleLoader

    inputs = StageInputs(stage="examples", config={"steps": steps, "rate": rate}, parents=(start.id,), seed=seed)
    workspace = Workspace(home / "home")
    if made := reusable(workspace, inputs):
        return made
    with Run(workspace, inputs) as run:
        begun = Start.of(start)
        texts = [Taught(encode_completion(begun.tokenizer, row["prompt"], row["completion"])) for row in rows]
        objective = StudentObjective(begun.decoder, ExampleLoader(texts, [], rows=64, seed=seed), seed=seed)
        fit(run, objective, fitting(steps, 64, rate, seed, validations=0))
        return begun.publish(run, {})


def fitting(steps: int, rows: int, rate: float, seed: int, *, validations: int) -> Any:
    """AdamW on one core."""
    from bloomery.training.fit import FitConfig

    return FitConfig(
        steps=steps,
        batch_rows=rows,
        optimizer="adamw",
        learning_rate=rate,
        weight_decay=0.0,
        max_norm=1.0,
        validations=validations,
        validation_batches=10_000,
        seed=seed,
        device="cpu",
    )


def accuracy(model: Any, rows: list[dict[str, str]], seed: int) -> float:
    """Greedy answers to the sums that `reinforce` holds out for this seed."""
    from bloomery.adapt.preference.encoded import encode_prompt
    from bloomery.adapt.reinforcement.rewards import exact
    from bloomery.adapt.reinforcement.rollouts import Drawer
    from bloomery.adapt.starting import Start, split

    begun = Start.of(model)
    prompts = [encode_prompt(begun.tokenizer, row["prompt"]) for row in rows]
    held, _ = split(prompts, HELD, seed)
    drawer = Drawer(begun.decoder, begun.tokenizer, max_new_tokens=TOKENS, cache_tokens=48 * 256)
    drawn = drawer.draw([prompts[n] for n in held], 1, temperature=0.0, seed=0)
    drawer.close()
    return sum(exact(one.text, rows[held[one.place]]) for one in drawn) / len(held)


def one(home: str, seed: int, names: str, steps: int) -> list[dict[str, Any]]:
    """All arms of one seed, which begin with the same model."""
    from bloomery.adapt.reinforcement import ReinforceConfig, reinforce

    root = Path(home) / f"seed-{seed}"
    worked, asked = problems()
    base = taught(root, beginner(root, seed), worked, seed, LEARNT_STEPS, 3e-3)
    found = []
    for arm in names.split(","):
        if arm == EXAMPLES_ARM:
            more = taught(root, base, worked, seed + 100, steps, 5e-4)
            result: dict[str, Any] = {"before": accuracy(base, asked, seed), "after": accuracy(more, asked, seed)}
        else:
            settings: dict[str, Any] = {"rewards": ("exact",), "weights": "full", **ARMS[arm]}
            config = ReinforceConfig(
                group=GROUP,
                max_new_tokens=TOKENS,
                validation_fraction=HELD,
                validation_prompts=1000,
                fit=fitting(steps, ROWS, 5e-4, seed, validations=9),
                **settings,
            )
            own = [Chance()] if arm == "random rewards" else []
            metrics = reinforce(base, asked, config=config, rewards=own, workspace=root / "home").metrics
            key = "reward_exact" if own else "reward"
            result = {
                "before": metrics[f"before_{key}"],
                "after": metrics[f"validation_{key}"],
                "curve": [] if own else [[step, value] for step, _, value in metrics["validation_curve"]],
                "rewards": [row[1] for row in metrics["reward_curve"]],
                "engine_gap_max_nats": metrics["engine_gap_max_nats"],
                "seconds": metrics["training_seconds"],
            }
        found.append({"arm": arm, "seed": seed, **result})
        print(arm, seed, result["before"], result["after"], result.get("curve"), flush=True)
    return found


def main() -> None:
    """Train, test, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    parser.add_argument("--arms", default=",".join([*ARMS, EXAMPLES_ARM]))
    options = parser.parse_args()
    with scratch_home(options.home) as home:
        arms = [(home, seed, options.arms, options.steps) for seed in range(options.seeds)]
        found = [row for rows in run_arms(one, arms, jobs=options.jobs) for row in rows]
    table = {}
    for arm in options.arms.split(","):
        mine = [row for row in found if row["arm"] == arm]
        gains = over_seeds([row["after"] - row["before"] for row in mine])
        table[arm] = {name: over_seeds([row[name] for row in mine]) for name in ("before", "after")} | {"gain": gains}
        print(arm, *(f"{name} {shown(value, '.3f')}" for name, value in table[arm].items()))
    if options.seeds == len(SEEDS) and len(table) == len(ARMS) + 1:
        keep("reinforced_sums", {"steps": options.steps, "group": GROUP, "rows": ROWS, "table": table, "arms": found})


if __name__ == "__main__":
    main()
