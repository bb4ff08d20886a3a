"""Our policy loss against TRL's GRPO trainer: the same weights, the same answers; losses, figures and gradients.

Tolerance 1e-5: the losses are of order one and float32 sums differ in their order.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.reinforcement.config import ReinforceConfig, ReinforceFitConfig
from bloomery.adapt.reinforcement.objective import PolicyObjective
from bloomery.adapt.reinforcement.policy import advantages
from bloomery.models import Decoder, load_pretrained
from bloomery.training.building import thawed
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import to_device

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # trl and transformers of each other's arguments
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_model.py"))
GROUP, LONGEST = 3, 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("policy")
    return TINY["make_tiny_model"](root / "policy", seed=1), TINY["make_tiny_model"](root / "reference", seed=2)


def _trainer(folders, folder, **options: Any) -> Any:
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging
    from trl import GRPOConfig, GRPOTrainer

    disable_progress_bars()
    logging.disable_progress_bar()
    quiet: dict[str, Any] = {"report_to": [], "use_cpu": True, "bf16": False}
    made = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folders[0]),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=2 * GROUP,
            num_generations=GROUP,
            max_completion_length=LONGEST,
            **{**quiet, **options},
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 8),
        processing_class=PreTrainedTokenizerFast.from_pretrained(folders[0]),
    )
    made.model.eval()
    return made


def _answers() -> list[Completion]:
    rng = np.random.default_rng(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(3, 300, rng.integers(low, high)).tolist())

    return [Completion(prompt, ids(1, LONGEST)) for prompt in (ids(2, 6), ids(2, 6)) for _ in range(GROUP)]


def _their_batch(answers: list[Completion], values: dict[str, list[list[float]]]) -> dict[str, torch.Tensor]:
    """Prompts padded at the left, completions at the right."""
    before, after = max(len(a.prompt) for a in answers), max(len(a.completion) for a in answers)
    made = {
        name: torch.zeros(len(answers), width, dtype=torch.long)
        for name, width in (
            ("prompt_ids", before),
            ("prompt_mask", before),
            ("completion_ids", after),
            ("completion_mask", after),
        )
    }
    told = {name: torch.zeros(len(answers), after) for name in values}
    for row, one in enumerate(answers):
        made["prompt_ids"][row, before - len(one.prompt) :] = torch.tensor(one.prompt)
        made["prompt_mask"][row, before - len(one.prompt) :] = 1
        made["completion_ids"][row, : len(one.completion)] = torch.tensor(one.completion)
        made["completion_mask"][row, : len(one.completion)] = 1
        for name, each in values.items():
            told[name][row, : len(one.completion)] = torch.tensor(each[row])
    made["num_items_in_batch"] = made["completion_mask"].sum()
    return {**made, **told}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "first step": ({}, {"loss_type": "grpo"}),
    "clipped": ({"iterations": 2}, {"loss_type": "grpo", "num_iterations": 2}),
    "reference": ({"iterations": 2, "kl_weight": 0.3}, {"loss_type": "grpo", "num_iterations": 2, "beta": 0.3}),
    "reference, as the paper has it": (
        {"kl_weight": 0.3, "kl_weighted": False},
        {"loss_type": "grpo", "beta": 0.3, "use_bias_correction_kl": False},
    ),
    "Dr. GRPO": (
        {"iterations": 2, "average": "constant", "scale": "none"},
        {"loss_type": "dr_grpo", "num_iterations": 2, "scale_rewards": "none"},
    ),
    "tokens, two clips": (
        {"iterations": 2, "average": "tokens", "clip_high": 0.28},
        {"loss_type": "dapo", "num_iterations": 2, "epsilon_high": 0.28},
    ),
    "warm": ({"iterations": 2, "temperature": 0.7}, {"loss_type": "grpo", "num_iterations": 2, "temperature": 0.7}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_loss_equals_trl(folders, tmp_path, case):
    ours, theirs = CASES[case]
    fit = ReinforceFitConfig(steps=1, batch_rows=2 * GROUP, precision="float32")
    config = ReinforceConfig(group=GROUP, max_new_tokens=LONGEST, fit=fit, **ours)
    decoder = thawed(load_pretrained(folders[0]))
    assert isinstance(decoder, Decoder)
    objective = PolicyObjective(
        decoder.eval(),
        ExampleLoader([0, 1], [], rows=2, seed=0),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        [],
        config,
        reference=load_pretrained(folders[1]),
    )
    answers = _answers()
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.0, 0.0, 2.0], dtype=torch.float64)
    pending: dict[str, Any] = {
        "prompts": [list(one.prompt) for one in answers],
        "completions": [list(one.completion) for one in answers],
        "counts": [True] * len(answers),
        "advantages": advantages(rewards, GROUP, config.scale).tolist(),
    }
    rng = np.random.default_rng(1)
    told: dict[str, list[list[float]]] = {}
    if config.iterations > 1:  # what they were drawn by was a little different
        now = objective._said(pending, config.temperature)
        pending["old"] = [[value + rng.normal(0, 0.3) for value in row] for row in now]
        told["old_per_token_logps"] = pending["old"]
    if config.kl_weight:
        assert objective.reference is not None
        pending["reference"] = objective._said(pending, config.temperature, reference=True)
        told["ref_per_token_logps"] = pending["reference"]
    objective._curve.append({"tokens": 0.0, "clipped": 0.0, "kl": 0.0})
    batch = objective._batch(pending)
    loss = objective.loss(to_device(batch.arrays, torch.device("cpu"))) / batch.weight
    loss.backward()

    trainer = _trainer(folders, tmp_path, **theirs)
    inputs = _their_batch(answers, told)
    inputs["advantages"] = torch.tensor(pending["advantages"], dtype=torch.float32)
    expected = trainer.compute_loss(trainer.model, inputs)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    mine = dict(decoder.named_parameters())
    for name, parameter in trainer.model.named_parameters():
        gradient, scale = mine[name].grad, float(parameter.grad.abs().max())
        assert gradient is not None
        assert torch.allclose(gradient, parameter.grad, atol=1e-4 * scale + 1e-7), name
    objective._tell()
    figures, sums = trainer._metrics["eval"], objective._curve[-1]
    assert sums["clipped"] / sums["tokens"] == pytest.approx(figures["clip_ratio/region_mean"][-1])
    if config.kl_weight and not config.kl_weighted:
        assert sums["kl"] / sums["tokens"] == pytest.approx(figures["kl"][-1], rel=1e-4)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_trl_s(scale):
    """TRL computes them in the middle of drawing; its own standard deviation is what is compared with here."""
    from trl.trainer.utils import nanstd

    rewards = torch.tensor([1.0, 0.0, 0.5, 0.25, 0.25, 0.25, 0.0, 1.0, 1.0], dtype=torch.float64)
    grouped = rewards.view(-1, GROUP)
    gaps = grouped - grouped.mean(1, keepdim=True)
    if scale == "group":
        gaps = gaps / (nanstd(grouped, dim=1, keepdim=True) + 1e-4)
    elif scale == "batch":
        gaps = gaps / (nanstd(rewards) + 1e-4)
    assert torch.allclose(advantages(rewards, GROUP, scale), gaps.flatten())
