"""Start: the model that an adaptation begins with, and how what became of it is written.

This module does not know how anything is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.models import Decoder
from bloomery.models.pretrained import load_pretrained
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import thawed
from bloomery.training.publishing import save_model


@dataclass(frozen=True)
class Start:
    """A decoder in float32, which will be changed, and its tokenizer."""

    decoder: Decoder
    tokenizer: Tokenizer

    @classmethod
    def of(cls, model: Artifact) -> Start:
        """Read from an artifact. ConfigError if it is no language model."""
        if model.kind != "model":
            raise ConfigError(f"{model.name} is a {model.kind}, which writes no text", hint="give a model")
        return cls(thawed(load_pretrained(model.path, dtype=torch.float32)), Tokenizer.load(model.path))

    @property
    def pad_id(self) -> int:
        """What rows are filled with, which nothing reads."""
        return self.tokenizer.end_id

    def save(self, run: Run) -> Path:
        """Config, weights and tokenizer, in a new folder of the run."""
        folder = run.new_folder("model")
        save_model(self.decoder.to("cpu"), folder)
        self.tokenizer.save(folder)
        return folder
