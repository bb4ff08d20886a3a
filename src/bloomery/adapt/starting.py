"""Start: the model that an adaptation begins with, what of it is trained, and how what became of it is written.

All weights are trained, or low-rank adapters over weights that stay as they are; those give the base again whenever
they are switched off. This module does not know how anything is learnt.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from bloomery.adapt.tuning.adapt import ADAPTER
from bloomery.adapt.tuning.adapt import STAGE as STAGE
from bloomery.adapt.tuning.adapter_files import save_adapter
from bloomery.adapt.tuning.config import usual_rate
from bloomery.adapt.tuning.lora import add_lora, sets_of, use
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.models import Decoder
from bloomery.models.adapter import HEAD
from bloomery.models.pretrained import load_pretrained
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import thawed
from bloomery.training.fit import FitConfig
from bloomery.training.publishing import save_model

Weights = Literal["lora", "full"]


@dataclass(frozen=True)
class Start:
    """A decoder in float32, which will be changed, and its tokenizer; `base` is its name."""

    decoder: Decoder
    tokenizer: Tokenizer
    base: str
    adapted: bool = False

    @classmethod
    def of(cls, model: Artifact, lora: LoraConfig | None = None, *, seed: int = 0) -> Start:
        """Read from an artifact; with `lora` the base is frozen, and adapters with initial values from the seed are put
        on it. ConfigError if it is no language model, or for adapters of its output head."""
        if model.kind != "model":
            raise ConfigError(f"{model.name} is a {model.kind}, which writes no text", hint="give a model")
        decoder = cast(Decoder, thawed(load_pretrained(model.path, dtype=torch.float32)))
        if lora is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                add_lora(decoder, lora)
            held = sets_of(decoder)
            assert held is not None
            if any(HEAD in one.layer.ours for one in held.layers(held.active[0]).values()):
                raise ConfigError("adapters of the output head are not trained here", hint="leave lm_head out")
        return cls(decoder, Tokenizer.load(model.path), model.name, lora is not None)

    @property
    def pad_id(self) -> int:
        """What rows are filled with, which nothing reads."""
        return self.tokenizer.end_id

    def rated(self, fit: FitConfig, share: float = 1.0) -> FitConfig:
        """`fit` with a learning rate, where it has none: `share` of what examples are learnt with (`usual_rate`)."""
        if fit.learning_rate:
            return fit
        rate = usual_rate("lora" if self.adapted else "full", self.decoder.config.hidden_size)
        return replace(fit, learning_rate=rate * share)

    def publish(self, run: Run, metrics: dict[str, Any], *, files: Sequence[Path] = ()) -> Artifact:
        """A model, or an adapter in PEFT's format, with `files` copied beside it."""
        import shutil

        folder = run.new_folder("adapted")
        self.decoder.to("cpu").eval()
        if self.adapted:
            save_adapter(self.decoder, folder, base=self.base)
        else:
            save_model(self.decoder, folder)
            self.tokenizer.save(folder)
        for file in files:
            shutil.copyfile(file, folder / file.name)
        named = dict(self.decoder.named_parameters())
        trained = sum(one.numel() for one in named.values() if one.requires_grad)
        return run.publish(
            folder, kind=ADAPTER if self.adapted else "model", metrics={"trained_parameters": trained, **metrics}
        )


@contextlib.contextmanager
def as_begun(decoder: Decoder) -> Iterator[None]:
    """Inside, a decoder with adapters computes as its base does."""
    held = sets_of(decoder)
    assert held is not None
    active = held.active
    use(decoder)
    try:
        yield
    finally:
        use(decoder, *active)


def split(prompts: Sequence[Any], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """(numbers that are held out, the others), drawn from the seed; examples of one prompt stay together, and one
    prompt at least is left to train on."""
    groups: dict[Any, list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(number)
    families = list(groups.values())
    order = np.random.default_rng([seed, len(families)]).permutation(len(families)).tolist()
    held = min(len(families) - 1, round(len(families) * fraction))
    chosen, rest = ([n for place in part for n in families[place]] for part in (order[:held], order[held:]))
    return sorted(chosen), sorted(rest)


def begin_anew(run: Run, *names: str) -> None:
    """Forget checkpoints of an earlier attempt, and files of these names."""
    import shutil

    for name in ("checkpoints", "best"):
        shutil.rmtree(run.scratch / name, ignore_errors=True)
    for name in ("fit.json", *names):
        (run.scratch / name).unlink(missing_ok=True)
