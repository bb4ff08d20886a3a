"""Distillation as a stage: a student and a teacher in, a student that is nearer to the teacher out, and what it cost.

    logits:  texts -> the teacher's distribution at each of their tokens -> fit -> publish
    texts:   prompts -> texts that the teacher writes -> fit -> publish, with the texts beside the weights

Killed at any instant, the same call goes on: texts that were written are kept, training resumes. This module does not
know any one loss.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bloomery.adapt.distillation.config import DistilConfig
from bloomery.adapt.distillation.student import StudentObjective, Taught
from bloomery.adapt.distillation.teacher import CANDIDATES, TEXTS, ask_once, check_tokens, cost_of, write_texts
from bloomery.adapt.distillation.texts import Text, read_texts, windows
from bloomery.adapt.preference.encoded import Completion, encode_completion
from bloomery.adapt.preference.preferences import Prompt
from bloomery.adapt.starting import STAGE, Start, begin_anew, split
from bloomery.core.artifact import Artifact, sha256_file
from bloomery.core.config import to_dict
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.engine import load_language_model
from bloomery.models import Decoder
from bloomery.models.pretrained import load_pretrained
from bloomery.tokenizer import Tokenizer
from bloomery.training.fit import fit
from bloomery.training.loader import ExampleLoader
from bloomery.training.speed import choose_device


def distil(
    student: Artifact,
    teacher: Artifact,
    data: Artifact | str | Path,
    *,
    config: DistilConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Train a student by a teacher; returns a "model" artifact whose parents are both models, and the corpus.

    `data` is a corpus, or a file as `read_texts` takes it. An equal call returns the same artifact without training,
    unless `fresh`. Metrics hold the teacher's cost apart. Raises ConfigError, DataError, TrainingError.
    """
    workspace, config = as_workspace(workspace), config or DistilConfig()
    corpus = data.id if isinstance(data, Artifact) else ""
    if not isinstance(data, Artifact) and not Path(data).expanduser().is_file():
        raise DataError(f"there is no file {data}")
    inputs = StageInputs(
        stage=STAGE,
        config={"method": "distil", **to_dict(config)},
        parents=tuple(identity for identity in (student.id, teacher.id, corpus) if identity),
        seed=config.fit.seed,
        fingerprint="" if isinstance(data, Artifact) else sha256_file(Path(data).expanduser()),
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        if fresh:
            begin_anew(run, TEXTS, CANDIDATES)
        lora = config.lora if config.weights == "lora" else None
        return _Distilling(run, config, Start.of(student, lora, seed=config.fit.seed), teacher).publish(data)


class _Distilling:
    def __init__(self, run: Run, config: DistilConfig, start: Start, teacher: Artifact) -> None:
        self.run, self.config, self.start, self.teacher = run, config, start, teacher
        self.device = choose_device(config.fit.device)
        self.left_out = 0
        self.families: list[Any] = []
        """Of each encoded text its prompt, or the document that it is a window of: these stay in one split."""
        self.cost: dict[str, Any] = {}

    def publish(self, data: Artifact | str | Path) -> Artifact:
        """Train and publish."""
        config = self.config
        torch.manual_seed(config.fit.seed)
        self.start.decoder.to(self.device)
        before = self.run.energy_joules
        with self.run.phase("teach"):
            found = read_texts(data)
            taught, teacher = self._written(found) if config.way == "texts" else self._shown(found)
        self.cost["teaching_energy_joules"] = (self.run.energy_joules - before).to_dict()
        held, kept = split(self.families, config.validation_fraction, 0)
        loader = ExampleLoader(
            [taught[number] for number in kept],
            [taught[number] for number in held],
            rows=config.fit.batch_rows,
            seed=config.fit.seed,
            lengths=[len(taught[number].text) for number in kept],
        )
        objective = StudentObjective(
            self.start.decoder,
            loader,
            seed=config.fit.seed,
            teacher=teacher,
            beta=config.beta,
            temperature=config.temperature,
            label_weight=config.label_weight,
            pad_id=self.start.pad_id,
        )
        steps_an_epoch = len(loader.train) // loader.rows
        fitting = self.start.rated(config.fit)
        fitted = fit(self.run, objective, fitting, steps_an_epoch=steps_an_epoch, stage=STAGE)
        metrics = {
            "method": "distil",
            "way": config.way,
            "weights": config.weights,
            "learning_rate": fitting.learning_rate,
            "left_out": self.left_out,
            **self.cost,
            **fitted.metrics,
        }
        texts = self.run.scratch / TEXTS
        return self.start.publish(self.run, metrics, files=[texts] if texts.is_file() else [])

    def _shown(self, texts: Sequence[Text]) -> tuple[list[Taught], Decoder | None]:
        """Given texts, and the teacher to be asked at every step, or what it said once."""
        config = self.config
        check_tokens(self.start.tokenizer, Tokenizer.load(self.teacher.path))
        teacher = load_pretrained(self.teacher.path, dtype=torch.float32).to(self.device)
        encoded = self._encoded(texts, min(self.start.decoder.context_length, teacher.context_length))
        if not config.candidates:
            return [Taught(one) for one in encoded], teacher
        how: dict[str, Any] = {"temperature": config.temperature, "pad_id": self.start.pad_id}
        return ask_once(teacher, encoded, config.candidates, self.run, **how), None

    def _written(self, texts: Sequence[Text]) -> tuple[list[Taught], None]:
        """What the teacher writes for the questions; answers that are there are not looked at."""
        config, path = self.config, self.run.scratch / TEXTS
        prompts = [one.prompt for one in texts if one.prompt is not None]
        if not prompts:
            raise DataError('there is no prompt to write for; way="logits" learns from plain texts')
        total = len(prompts) * config.samples
        model = load_language_model(self.teacher.path, device=self.device, workspace=self.run.workspace)
        try:
            write_texts(
                model,
                prompts,
                path,
                max_new_tokens=config.max_new_tokens,
                temperature=config.writing_temperature,
                samples=config.samples,
                seed=config.fit.seed,
                told=lambda done: self.run.progress(done, total, unit="texts", doing="the teacher writes"),
            )
        finally:
            model.close()
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]  # as text, U+2028 would end one
        self.cost["writing"] = cost_of(rows).to_dict()
        ended = [row for row in rows if row["ended"] and row["completion"].strip()]
        self.cost["texts_without_an_end"] = len(rows) - len(ended)
        if not ended:
            raise DataError("no text of the teacher's came to an end", hint="a larger max_new_tokens")
        found = [Text(_prompt(row["prompt"]), row["completion"]) for row in ended]
        return [Taught(one) for one in self._encoded(found, self.start.decoder.context_length)], None

    def _encoded(self, texts: Sequence[Text], context: int) -> list[Completion]:
        tokenizer, limit = self.start.tokenizer, min(self.config.max_tokens, context)
        found: list[Completion] = []
        for one in texts:
            if one.completion is None:
                raise DataError("a question has no answer to learn from", hint='way="texts" has the teacher answer')
            if one.prompt is None:
                ids = [*tokenizer.encode(one.completion), tokenizer.end_id]
                parts = [Completion(*part) for part in windows(ids, limit, tokenizer.separator_id)]
                found += parts
                self.families += [one.completion] * len(parts)
                continue
            encoded = encode_completion(tokenizer, one.prompt, one.completion)
            if len(encoded) <= limit:
                found.append(encoded)
                self.families.append(encoded.prompt)
            else:
                self.left_out += 1
        if not found:
            raise DataError(f"all {self.left_out:,} examples are longer than {limit:,} tokens")
        return found


def _prompt(read: Any) -> Prompt:
    return read if isinstance(read, str) else tuple(read)
