"""Preference objectives against TRL's trainers: the same weights, the same batch; losses, figures and gradients.

Tolerance 1e-5, as the losses are of order one and float32 sums differ in their order.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.preference.judged import JudgedAnswer, JudgedObjective, others
from bloomery.adapt.preference.pairs import Pair, PairObjective, completion_logprobs
from bloomery.models import Decoder, load_pretrained
from bloomery.training.building import thawed
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import to_device

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # trl and transformers of each other's arguments
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_model.py"))
QUIET: dict[str, Any] = {"report_to": [], "use_cpu": True, "bf16": False, "per_device_train_batch_size": 4}
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """The policy and its reference, which have other weights."""
    root = tmp_path_factory.mktemp("preferences")
    return TINY["make_tiny_model"](root / "policy", seed=1), TINY["make_tiny_model"](root / "reference", seed=2)


@pytest.fixture
def trl(folders, tmp_path) -> Any:
    """Makes one of TRL's trainers of the same two models; the data it is given are not used."""
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder) for folder in folders)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folders[0])

    def make(trainer: Any, config: Any, row: dict[str, Any], **options: Any) -> Any:
        arguments = config(output_dir=str(tmp_path), **{**QUIET, **options})
        models = {"model": policy} if "orpo" in trainer.__module__ else {"model": policy, "ref_model": reference}
        made = trainer(**models, args=arguments, train_dataset=Dataset.from_list([row] * 4), processing_class=tokenizer)
        made.model.eval()
        return made

    return make


def _answers(count: int, seed: int) -> list[tuple[Completion, Completion]]:
    """Pairs of random ids; completions of unequal lengths."""
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(3, 300, rng.integers(low, high)).tolist())

    prompts = [ids(2, 9) for _ in range(count)]
    return [(Completion(prompt, ids(1, 12)), Completion(prompt, ids(1, 12))) for prompt in prompts]


def _policy(folders) -> Decoder:
    decoder = thawed(load_pretrained(folders[0]))
    assert isinstance(decoder, Decoder)
    return decoder.eval()


def _pairs(folders, count: int = 5) -> list[Pair]:
    reference = load_pretrained(folders[1])
    return [
        Pair(chosen, rejected, tuple(completion_logprobs(reference, [chosen, rejected])))  # type: ignore[arg-type]
        for chosen, rejected in _answers(count, 0)
    ]


def _ours(objective: Any, material: list[Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor], float]:
    batch = objective.collate(material, np.random.default_rng(0), training=True)
    arrays = to_device(batch.arrays, torch.device("cpu"))
    loss = objective.loss(arrays) / batch.weight
    loss.backward()
    return loss.detach(), arrays, batch.weight


def _same_gradients(ours: Decoder, theirs: Any) -> None:
    mine = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        gradient = mine[name].grad
        assert gradient is not None and parameter.grad is not None
        scale = float(parameter.grad.abs().max())
        assert torch.allclose(gradient, parameter.grad, atol=1e-4 * scale + 1e-7), name


def _rows(completions: list[Completion]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention and completion masks (B, T), as TRL's collators pad them."""
    width = max(len(one) for one in completions)
    ids, mask, answered = (torch.zeros(len(completions), width, dtype=torch.long) for _ in range(3))
    for row, one in enumerate(completions):
        ids[row, : len(one)] = torch.tensor([*one.prompt, *one.completion])
        mask[row, : len(one)] = 1
        answered[row, len(one.prompt) : len(one)] = 1
    return ids, mask, answered


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sigmoid", {"beta": 0.1}),
        ("sigmoid", {"beta": 0.5, "label_smoothing": 0.2}),
        ("ipo", {"beta": 0.25}),
    ],
)
def test_dpo_and_ipo_equal_trl(folders, trl, kind, options):
    from trl import DPOConfig, DPOTrainer

    # TRL smooths labels in its losses "robust" and "exo_pair" only: the conservative one is (1 - e) of each side.
    smoothing = options.get("label_smoothing", 0.0)
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    trainer = trl(DPOTrainer, DPOConfig, row, beta=options["beta"], loss_type=[kind])
    pairs = _pairs(folders)
    objective = PairObjective(_policy(folders), ExampleLoader(pairs, [], rows=5, seed=0), seed=0, loss=kind, **options)
    loss, arrays, weight = _ours(objective, pairs)

    def batch(first: str, second: str) -> dict[str, torch.Tensor]:
        ids, mask, answered = _rows([getattr(pair, side) for side in (first, second) for pair in pairs])
        return {"input_ids": ids, "attention_mask": mask, "completion_mask": answered}

    theirs = (1 - smoothing) * trainer.compute_loss(trainer.model, batch("chosen", "rejected"))
    margin = trainer._metrics["eval"]["rewards/margins"][-1]
    accuracy = trainer._metrics["eval"]["rewards/accuracies"][-1]
    logps = trainer._metrics["eval"]["logps/chosen"][-1]
    if smoothing:
        theirs = theirs + smoothing * trainer.compute_loss(trainer.model, batch("rejected", "chosen"))
    assert float(loss) == pytest.approx(theirs.item(), abs=TOLERANCE)
    theirs.backward()
    _same_gradients(objective.decoder, trainer.model)
    with torch.no_grad():
        figures = {name: value / weight for name, value in objective.figures(arrays).items()}
        sums = objective._losses(arrays)[2]
    assert figures["loss"] == pytest.approx(float(loss), abs=TOLERANCE)
    assert figures["reward_margin"] == pytest.approx(margin, abs=TOLERANCE)
    assert figures["reward_accuracy"] == pytest.approx(accuracy)
    assert float(sums[:, 0].mean()) == pytest.approx(logps, abs=1e-4)  # sums of tens of nats


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.5, 0.5)])
def test_kto_equals_trl(folders, trl, weights):
    from trl import KTOConfig, KTOTrainer

    good, bad = weights
    options = {"beta": 0.3, "desirable_weight": good, "undesirable_weight": bad}
    trainer = trl(KTOTrainer, KTOConfig, {"prompt": "a", "completion": "b", "label": True}, **options)
    reference = load_pretrained(folders[1])
    answers = [answer for pair in _answers(3, 3) for answer in pair]
    other = others(answers, seed=0)
    labels = [True, False, True, True, False, False]
    material = [
        JudgedAnswer(answer, label, another, tuple(completion_logprobs(reference, [answer, another])))  # type: ignore[arg-type]
        for answer, label, another in zip(answers, labels, other, strict=True)
    ]
    objective = JudgedObjective(_policy(folders), ExampleLoader(material, [], rows=6, seed=0), seed=0, **options)
    loss, arrays, weight = _ours(objective, material)
    ids, mask, answered = _rows(answers)
    other_ids, other_mask, other_answered = _rows(other)
    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "completion_mask": answered,
        "KL_input_ids": other_ids,
        "KL_attention_mask": other_mask,
        "KL_completion_mask": other_answered,
        "label": torch.tensor(labels),
    }
    theirs = trainer.compute_loss(trainer.model, batch)
    assert float(loss) == pytest.approx(theirs.item(), abs=TOLERANCE)
    theirs.backward()
    _same_gradients(objective.decoder, trainer.model)
    with torch.no_grad():
        figures = objective.summary({k: v / weight for k, v in objective.figures(arrays).items()})
    assert figures["kl"] == pytest.approx(trainer._metrics["eval"]["kl"][-1], abs=1e-4)
    assert figures["reward_margin"] == pytest.approx(trainer._metrics["eval"]["rewards/margins"][-1], abs=TOLERANCE)


def test_orpo_equals_trl(folders, trl):
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    trainer = trl(ORPOTrainer, ORPOConfig, {"prompt": "a", "chosen": "b", "rejected": "c"}, beta=0.2)
    pairs = _pairs(folders)
    objective = PairObjective(
        _policy(folders), ExampleLoader(pairs, [], rows=5, seed=0), seed=0, loss="orpo", beta=0.2, nll="all"
    )
    loss, _, _ = _ours(objective, pairs)
    batch: dict[str, torch.Tensor] = {}
    for side in ("chosen", "rejected"):
        ids, mask, answered = _rows([getattr(pair, side) for pair in pairs])
        batch |= {f"{side}_input_ids": ids, f"{side}_attention_mask": mask}
        batch[f"{side}_labels"] = ids.masked_fill(answered == 0, -100)
    theirs = trainer.compute_loss(trainer.model, batch)
    assert float(loss) == pytest.approx(theirs.item(), abs=TOLERANCE)
    theirs.backward()
    _same_gradients(objective.decoder, trainer.model)
