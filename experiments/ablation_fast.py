"""Ablation of `fast`: what each part of the architecture and of the optimiser earns in equal time.

    python experiments/ablation_fast.py [--seconds 60] [--seeds 3] [--arms "all|..."] [--steps N] [--home DIR]

Each alone, all, and all without each. TinyStories, one thread. First every arm's step is timed, in turn, by processor
time (the least of a few rounds), so that whatever else the machine does matters little; then each arm trains for as
many steps as fit into the same seconds, by the ordinary objective, optimisers and schedule, and is validated in bits
per byte. Arms of a seed read the same rows in the same order. With --steps all arms take as many steps, and what they
cost is told beside. Cells are kept in --home: what was stopped goes on. What this does not know: other sizes, GPUs.
"""

from __future__ import annotations

import argparse
import lzma
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import SEEDS, data, keep, over_seeds, run_arms, scratch_home, shown, write_jsonl

VOCABULARY, CONTEXT, ROWS = 1024, 256, 8
SIZES = {"1M": (3, 128), "3M": (4, 192), "6M": (5, 256), "15M": (7, 384)}
"""Layers and width."""
Arm = dict[str, Any]
PARTS: dict[str, Arm] = {
    "squared ReLU": {"parts": {"squared_relu": True}},
    "value embeddings": {"values": True},
    "residual lambdas": {"parts": {"resid_lambdas": True}},
    "x0 lambdas": {"parts": {"x0_lambdas": True}},
    "smear": {"parts": {"smear": True}},
    "embedding norm": {"parts": {"embed_norm": True}},
    "soft cap 15": {"parts": {"logit_softcap": 15.0}},
    "bigrams 8k": {"bigrams": 8192},
    "Polar Express": {"optimizer": {"matrix_polynomial": "polar_express"}},
    "NorMuon": {"optimizer": {"matrix_second_beta": 0.9}},
    "cautious decay": {"optimizer": {"matrix_cautious_decay": True}},
    "momentum warm-up": {"optimizer": {"matrix_momentum_warmup_steps": 100}},
    "warm-down": {"decay": 0.7, "final": 0.05},
    "growing batch": {"first_batch": 0.5},
    "short rows first": {"short": 0.4},
}
SCHEDULES = ("momentum warm-up", "warm-down", "growing batch", "short rows first")
MUON = ("NorMuon", "momentum warm-up", "cautious decay")
WHOLE = {"matrix_by_head": False, "matrix_feed_block": 0, "matrix_whole_every": 0}
"""The base's matrices."""
BLOCKS = {"matrix_by_head": True, "matrix_feed_block": 128}
OTHERS: dict[str, Arm] = {
    "heads by themselves": {"optimizer": {"matrix_by_head": True}},
    "heads, and neurons by 64": {"optimizer": {"matrix_by_head": True, "matrix_feed_block": 64}},
    "heads, and neurons by 32": {"optimizer": {"matrix_by_head": True, "matrix_feed_block": 32}},
    "heads and blocks": {"optimizer": BLOCKS},
    "heads and blocks, every 5th whole": {"optimizer": {**BLOCKS, "matrix_whole_every": 5}},
    "4 iterations": {"optimizer": {"matrix_iterations": 4}},
    "Polar Express, 4": {"optimizer": {"matrix_polynomial": "polar_express", "matrix_iterations": 4}},
    "Polar Express, 3": {"optimizer": {"matrix_polynomial": "polar_express", "matrix_iterations": 3}},
    "bigrams 8k by rows": {"bigrams": 8192, "optimizer": {"bigram_rows": True}},
    "bigrams 8k by rows, rate .1": {"bigrams": 8192, "optimizer": {"bigram_rows": True, "bigram_lr": 0.1}},
    "bigrams 8k, rate .06": {"bigrams": 8192, "optimizer": {"bigram_lr": 0.06}},
    "value embeddings, rate .06": {"values": True, "optimizer": {"value_embedding_lr": 0.06}},
    "x0 and residual lambdas": {"parts": {"x0_lambdas": True, "resid_lambdas": True}},
    "soft cap 30": {"parts": {"logit_softcap": 30.0}},
    "wide init": {"init": True},
    "half the batch": {"rows": ROWS // 2},
    "twice the batch": {"rows": ROWS * 2},
    "AdamW": {"muon": False},
}
TABLES = ("optimizer", "parts")


def joined(*arms: Arm) -> Arm:
    """All of some arms' changes at once."""
    made: Arm = {name: {} for name in TABLES}
    for arm in arms:
        for key, value in arm.items():
            if key in TABLES:
                made[key] |= value
            else:
                made[key] = value
    return made


def all_arms() -> dict[str, Arm]:
    """Base, each alone, all, all but the schedules, and all without each."""
    arms: dict[str, Arm] = {"base": {}, **PARTS, **OTHERS, "all": joined(*PARTS.values())}
    earned = ("value embeddings", "smear", "bigrams 8k")
    for name, matrices in (("fast", "heads and blocks, every 5th whole"), ("fast by 64", "heads, and neurons by 64")):
        for more in ((), ("short rows first",), MUON, (*MUON, "short rows first")):
            parts = (PARTS[part] for part in (*earned, *more))
            arms[" + ".join((name, *more))] = joined(*parts, OTHERS[matrices])
    fast = joined(*(PARTS[name] for name in (*earned, "short rows first")))
    arms["fast + short rows first, whole matrices"] = fast
    arms["fast + short rows first, heads and blocks"] = joined(fast, OTHERS["heads and blocks"])
    arms["fast + short rows first, 16,384 bigrams"] = joined(arms["fast + short rows first"], {"bigrams": 16384})
    arms["all parts"] = joined(*(PARTS[name] for name in PARTS if name not in SCHEDULES))
    for name in PARTS:
        arms[f"all without {name}"] = joined(*(arm for other, arm in PARTS.items() if other != name))
    return arms


def corpus(home: str) -> tuple[Any, Any]:
    """Tokens and tokenizer of the stories."""
    from bloomery.corpus import CurateConfig, curate
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer

    text = lzma.decompress(data("tinystories", "tinystories_lower_4MB.txt.xz").read_bytes()).decode()
    told = (story.strip() for story in text.split("<|endoftext|>"))
    path = write_jsonl(Path(home) / "stories.jsonl", ({"text": story} for story in told if story))
    config = CurateConfig(sources=(str(path),), validation_fraction=0.03, test_fraction=0.0)
    stories = curate(config=config, workspace=home)
    tokenizer = train_tokenizer(stories, config=TokenizerConfig(vocab_size=VOCABULARY), workspace=home)
    return tokenize(stories, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home), tokenizer


class Cell:
    """One arm's model, optimisers and data."""

    def __init__(self, home: str, tokens: str, name: str, size: str, seed: int, steps: int) -> None:
        import torch

        from bloomery.core.workspace import as_workspace
        from bloomery.models import Decoder, ModelConfig
        from bloomery.models.config import every_second_layer
        from bloomery.tokenizer import PackedRows, TokenShards
        from bloomery.training.allocation import keep_memory
        from bloomery.training.causal import CausalObjective
        from bloomery.training.optimizers import OptimizerConfig, Optimizers
        from bloomery.training.parts import PartsConfig
        from bloomery.training.planning.shapes import shaped
        from bloomery.training.schedule import Schedule

        keep_memory()
        arm = all_arms()[name]
        parts = PartsConfig(**arm.get("parts", {}))
        own = bool(parts) or arm.get("values") or arm.get("bigrams")
        shards = TokenShards(as_workspace(home).find(tokens), "train")
        layers, hidden = SIZES[size]
        plain = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        base = ModelConfig(
            model_type="bloomery" if own else "qwen3",
            vocab_size=shards.vocab_size,
            intermediate_size=512,
            head_dim=64,
            max_position_embeddings=CONTEXT,
            **plain,
            value_embedding_layers=every_second_layer(2) if arm.get("values") else (),
            bigram_vocab_size=arm.get("bigrams", 0),
            **(parts.options() if own else {}),
            initializer_range=hidden**-0.5 if arm.get("init") else 0.02,
        )
        torch.manual_seed(seed)
        self.model = Decoder(shaped(base, layers, hidden))
        self.rows, self.steps = arm.get("rows", ROWS), steps
        decay, first = arm.get("decay", 0.5), arm.get("first_batch", 1.0)
        warmup = max(1, round(0.02 * steps))
        self.schedule = Schedule(
            total_steps=steps,
            warmup_steps=warmup,
            decay_steps=min(steps - warmup, round(decay * steps)),
            final=arm.get("final", 0.0),
            first_batch=first,
        )
        settings = OptimizerConfig(**{**WHOLE, **({} if arm.get("muon", True) else ADAMW), **arm.get("optimizer", {})})
        self.optimizers = Optimizers(self.model, settings, muon=arm.get("muon", True))
        validation = TokenShards(as_workspace(home).find(tokens), "validation")
        self.objective = CausalObjective(
            self.model,
            PackedRows(shards, context_length=CONTEXT, seed=seed),
            validation,
            short_rows=round(arm.get("short", 0.0) * steps * self.rows),
        )

    def step(self, number: int) -> float:
        """Update number `number`; the loss."""
        import torch

        from bloomery.training.objective import accumulate

        batch = self.objective.next_batch(self.schedule.rows(number, self.rows))
        loss = accumulate(self.objective, batch, self.rows, torch.device("cpu"), "float32")
        self.optimizers.step(self.schedule.multiplier(number))
        return float(loss)


ADAMW = {"matrix_lr": 2e-3, "embedding_lr": 2e-3, "head_lr": 2e-3, "scalar_lr": 2e-3, "adam_weight_decay": 0.05}


def pace(home: str, tokens: str, size: str, names: list[str]) -> dict[str, float]:
    """Processor seconds of a step of each arm, growing batches and short rows averaged over the run."""
    rounds, thirds = 8, 3
    spent: dict[str, list[list[float]]] = {}
    for turn in range(rounds):
        for name in names:
            # A run of three steps has a first, a second and a last third; short rows are its first 40%.
            cell = Cell(home, tokens, name, size, 0, thirds)
            if turn == 0:
                cell.step(thirds - 1)
            for number in range(thirds):
                began = time.process_time()
                cell.step(number)
                spent.setdefault(name, [[] for _ in range(thirds)])[number].append(time.process_time() - began)
    return {name: statistics.fmean(min(times) for times in found) for name, found in spent.items()}


def one(home: str, tokens: str, name: str, size: str, seed: int, steps: int) -> dict[str, Any]:
    """One arm, one seed: bits per byte after so many steps."""
    import torch

    began = time.process_time()
    cell = Cell(home, tokens, name, size, seed, steps)
    losses = [cell.step(number) for number in range(steps)]
    spent = time.process_time() - began
    found = cell.objective.validate(None, torch.device("cpu"), "float32")
    parameters = sum(p.numel() for p in cell.model.parameters())
    print(f"{size} {name}, seed {seed}: {found.value:.4f} ({steps} steps, {spent:.0f} s)", flush=True)
    return {
        "arm": name,
        "seed": seed,
        "steps": steps,
        "processor_seconds": spent,
        "parameters": parameters,
        "bits_per_byte": found.value,
        "last_losses": statistics.fmean(losses[-20:]),
    }


def named(work: Callable[..., Any], home: str, *arm: Any) -> Any:
    """One kept result of `work`."""
    return run_arms(work, [(home, *arm)], jobs=1, settings=[VOCABULARY, CONTEXT, ROWS])[0]


def table(found: list[dict[str, Any]], paces: dict[str, float]) -> dict[str, Any]:
    """Of each arm: bits per byte, less the base's of the same seed, and what its step costs over the base's."""
    base = {cell["seed"]: cell["bits_per_byte"] for cell in found if cell["arm"] == "base"}
    rows: dict[str, Any] = {}
    for name in dict.fromkeys(cell["arm"] for cell in found):
        mine = [cell for cell in found if cell["arm"] == name]
        less = [cell["bits_per_byte"] - base.get(cell["seed"], math.nan) for cell in mine]
        rows[name] = {
            "bits_per_byte": over_seeds([cell["bits_per_byte"] for cell in mine]),
            "less_base": over_seeds(less),
            "step_cost": paces[name] / paces["base"],
            "seconds": statistics.fmean(cell["processor_seconds"] for cell in mine),
            "steps": mine[0]["steps"],
            "parameters": mine[0]["parameters"],
        }
    return rows


def spent(found: list[dict[str, Any]]) -> dict[str, float]:
    """Processor seconds of a step of each arm, the least over seeds."""
    paces: dict[str, float] = {}
    for cell in found:
        paces[cell["arm"]] = min(paces.get(cell["arm"], math.inf), cell["processor_seconds"] / cell["steps"])
    return paces


def report(options: argparse.Namespace, found: list[dict[str, Any]], rows: dict[str, Any]) -> None:
    """Keep what was found, with the arguments that choose its arms: which there are by default changes."""
    by = "steps" if options.steps else "seconds"
    settings = {"size": options.size, "seeds": options.seeds, "by": by, by: getattr(options, by)}
    settings |= {"context": CONTEXT, "rows": ROWS, "vocabulary": VOCABULARY}
    arms = "|".join(name for name in rows if name != "base")
    name = f"ablation_fast_{options.size}" + ("_steps" if by == "steps" else "")
    keep(name, {**settings, "arguments": f'--arms "{arms}" --keep', "cells": found, "table": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="processor seconds of a cell's steps")
    parser.add_argument("--steps", type=int, default=0, help="of every arm, instead of the same seconds")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--size", choices=SIZES, default="1M")
    parser.add_argument("--arms", default="", help="names with | between [default: all]")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, of one thread each")
    parser.add_argument("--keep", action="store_true", help="keep the table of chosen arms; that of all is kept anyway")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    names = [name.strip() for name in options.arms.split("|")] if options.arms else list(all_arms())
    names = list(dict.fromkeys(["base", *names]))
    with scratch_home(options.home) as home:
        tokens, _ = corpus(home)
        paces = {} if options.steps else named(pace, home, tokens.id, options.size, names)
        arms = [
            (home, tokens.id, name, options.size, seed, options.steps or max(3, round(options.seconds / paces[name])))
            for seed in range(options.seeds)
            for name in names
        ]
        found = run_arms(one, arms, jobs=options.jobs, settings=[VOCABULARY, CONTEXT, ROWS])
    rows = table(found, paces or spent(found))
    for name, row in sorted(rows.items(), key=lambda pair: pair[1]["bits_per_byte"]["mean"]):
        less = shown(row["less_base"], "+.4f")
        print(f"{name:40} {shown(row['bits_per_byte'], '.4f')}  {less}  x{row['step_cost']:.2f}")
    if options.keep or not options.arms:
        report(options, found, rows)


if __name__ == "__main__":
    main()
