"""Tuned answerers: a model tuned on samples, behind the noun that evaluations compare.

    answerer = tune(model, train, dev, labels=("ham", "spam"))
    answerer.answer(sample).text, .confidence        answerer.training

Samples that share their choices are labels of a classifier; of others the answer is learnt, and written by the tuned
model, held to a sample's choices where it has some. This module does not know what answers are worth.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bloomery.adapt.making import Making
from bloomery.adapt.tuning.adapt import ADAPTER, adapt_examples
from bloomery.adapt.tuning.config import AdaptConfig, budgeted
from bloomery.adapt.tuning.instruct_data import Example
from bloomery.adapt.tuning.merging import base_id, merged
from bloomery.core.artifact import Artifact
from bloomery.core.errors import DataError, RequestError
from bloomery.core.messages import ChatOptions, chosen
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.engine.chat_model import EngineChat
from bloomery.engine.language_model import LanguageModel
from bloomery.engine.loading import kind_of_folder, read_label_names
from bloomery.evaluate.sample import Answered, Call, Sample
from bloomery.models import Decoder, load_pretrained
from bloomery.tokenizer import Tokenizer
from bloomery.training.batches import mask_of, padded
from bloomery.training.building import padding


def tune(
    model: str | Path | Artifact,
    train: Sequence[Sample],
    dev: Sequence[Sample],
    *,
    labels: Sequence[str] = (),
    instruction: str = "",
    config: AdaptConfig | None = None,
    minutes: float | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> TunedClassifier | TunedWriter:
    """A model tuned on `train`, whose best weights are those of the best validation on `dev`, as an answerer.

    `labels`: the choices that every sample shares, for a classifier. `instruction` stands before each question that is
    answered in words. `minutes` overrides the config's epochs. The stage is `adapt`'s: killed, an equal call goes on,
    and made, it is only opened. DataError for a sample without a target.
    """
    workspace, config = as_workspace(workspace), config or AdaptConfig()
    config = replace(config, fit=budgeted(config.fit, minutes, None))
    examples, held = ([_example(one, labels, instruction) for one in part] for part in (train, dev))
    told = "\n".join(one.identity for one in [*examples, *held])
    identity = hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()
    made = adapt_examples(
        model, examples, held, [identity, len(examples)], config=config, workspace=workspace, fresh=fresh
    )
    return open_tuned(made, instruction=instruction, workspace=workspace)


def open_tuned(
    tuned: str | Path | Artifact, *, instruction: str = "", workspace: Workspace | str | Path | None = None
) -> TunedClassifier | TunedWriter:
    """The answerer of an artifact that `tune` or `bloomery adapt` made; `instruction` as it was learnt with."""
    workspace = as_workspace(workspace)
    artifact = tuned if isinstance(tuned, Artifact) else workspace.find(str(tuned))
    labels = read_label_names(artifact.path)
    if artifact.kind == ADAPTER:
        model, tokenizer = merged(workspace.find(base_id(artifact)).path, artifact.path)
    else:
        kind = kind_of_folder(artifact.path)
        model = (
            kind.load(artifact.path, dtype=torch.float32, device="cpu") if labels else load_pretrained(artifact.path)
        )
        tokenizer = Tokenizer.load(artifact.path)
    cost = _cost(artifact)
    if labels:
        return TunedClassifier(artifact, cast(nn.Module, model), tokenizer, labels, cost)
    return TunedWriter(artifact, cast(Decoder, model), tokenizer, instruction, cost)


class TunedClassifier:
    """A label for each sample, with its probability. Safe to use from several threads."""

    def __init__(
        self, artifact: Artifact, model: nn.Module, tokenizer: Tokenizer, labels: Sequence[str], cost: Making
    ) -> None:
        self.artifact, self.labels, self.training = artifact, tuple(labels), cost
        self.name = f"{artifact.metrics['method']} classifier"
        self._model, self._tokenizer = model.eval(), tokenizer
        most = int(artifact.manifest["config"]["context_length"])
        # Nets without positions have no longest text of their own.
        context = getattr(model, "context_length", None) or getattr(model.config, "context_length", most)
        self._most = int(min(most, cast(int, context)))
        self._device = torch.device("cpu")
        self._meter, self._lock = open_meter(), threading.Lock()

    def close(self) -> None:
        """Give the energy meter back."""
        self._meter.close()

    def answer(self, sample: Sample) -> Answered:
        """The most probable label. `details` has every label's probability."""
        began = time.perf_counter()
        ids, _ = self._tokenizer.encode_with_special(sample.input, max_length=self._most)
        if not ids:
            return Answered(sample_id=sample.id, text="", error="the text is empty")
        with self._lock, torch.inference_mode():
            before = self._meter.read()
            logits = self._model(torch.tensor([ids], device=self._device))
            chances = logits.float().softmax(-1)[0].tolist()
            energy = self._meter.read() - before
        best = max(range(len(chances)), key=chances.__getitem__)
        return Answered(
            sample_id=sample.id,
            text=self.labels[best],
            prompt_tokens=len(ids),
            completion_tokens=0,
            seconds=time.perf_counter() - began,
            energy_joules=energy,
            confidence=chances[best],
            details={"probabilities": dict(zip(self.labels, chances, strict=True))},
        )

    def probabilities(self, samples: Sequence[Sample], *, rows: int = 64, device: str = "cpu") -> NDArray[np.float64]:
        """(N, labels), `rows` texts of about one length at a time; the model stays on that device. An empty text is
        read as padding alone."""
        pad = padding(self._tokenizer)
        texts = [self._tokenizer.encode_with_special(one.input, max_length=self._most)[0] or [pad] for one in samples]
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        found = np.zeros((len(texts), len(self.labels)))
        with self._lock, torch.inference_mode():
            self._device = torch.device(device)
            self._model.to(self._device)
            for start in range(0, len(order), rows):
                chosen_rows = order[start : start + rows]
                batch = [texts[n] for n in chosen_rows]
                ids = padded(batch, pad)
                inputs = [torch.from_numpy(one).to(self._device) for one in (ids, mask_of(batch, ids.shape[1]))]
                found[chosen_rows] = self._model(*inputs).double().softmax(-1).cpu().numpy()
        return found


class TunedWriter:
    """What the tuned model writes, greedily. Safe to use from several threads."""

    def __init__(
        self, artifact: Artifact, model: Decoder, tokenizer: Tokenizer, instruction: str, cost: Making
    ) -> None:
        self.artifact, self.instruction, self.training = artifact, instruction, cost
        self.name = f"{artifact.metrics['method']} writer"
        self.chat = EngineChat(LanguageModel(model, tokenizer, name=artifact.name), identity=artifact.id)
        self.max_new_tokens = 256

    def close(self) -> None:
        """Give the energy meter back."""
        self.chat.model.close()

    def answer(self, sample: Sample) -> Answered:
        """The answer as it was learnt; one of the choices where there are some. A question that is too long has none,
        and says so."""
        messages = asked(sample, self.instruction)
        most = min(self.max_new_tokens, self.chat.model.config.context_length // 2)
        options = ChatOptions(temperature=0.0, max_new_tokens=most, choices=sample.choices)
        try:
            found = self.chat.answer(messages, options)
        except RequestError as error:  # of this question's; a model in process has none that all would meet
            return Answered(sample_id=sample.id, text="", error=error.one_line())
        text = chosen(found.text, sample.choices) or found.text if sample.choices else found.text
        return Answered(
            sample_id=sample.id,
            text=text,
            prompt_tokens=found.usage.prompt_tokens,
            completion_tokens=found.usage.completion_tokens,
            seconds=found.seconds,
            energy_joules=found.usage.energy_joules,
            calls=(Call(messages=messages, text=found.text),),
        )


def asked(sample: Sample, instruction: str) -> list[dict[str, str]]:
    """A sample as the question that is learnt and asked."""
    parts = [instruction, sample.input, "\n".join(sample.choices)]
    return [{"role": "user", "content": "\n\n".join(part for part in parts if part)}]


def _example(sample: Sample, labels: Sequence[str], instruction: str) -> Example:
    if not sample.targets:
        raise DataError(f"sample {sample.id!r:.60} has no target to learn")
    where, target = f"sample {sample.id}", sample.targets[0]
    if labels:
        if target not in labels:
            raise DataError(f"{where} has the target {target!r:.60}, which is no label")
        return Example(where=where, answer=sample.input, label=target)
    messages: list[Mapping[str, Any]] = [*asked(sample, instruction), {"role": "assistant", "content": target}]
    return Example(where=where, messages=tuple(messages))


def _cost(artifact: Artifact) -> Making:
    return Making(
        seconds=float(artifact.manifest["seconds"]),
        energy_joules=artifact.energy_joules,
        labels=int(artifact.metrics["examples_given"]),
    )
