"""Parts: what a decoder of bloomery's own may have beyond a published family, and the set that earned its place.

Each is an option of the one decoder (see `ModelConfig`). `experiments/ablation_fast.py` measures each alone, and all
without each. This module does not know plans or budgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.models import ModelConfig


@dataclass(frozen=True, kw_only=True)
class PartsConfig:
    """Of family bloomery, beside value and bigram embeddings; such a model runs here alone."""

    squared_relu: bool = False
    """Plain feed-forwards with squared ReLU, four times as wide as the model, instead of gated ones with SiLU."""
    resid_lambdas: bool = False
    """Before each layer the residual stream is multiplied by a number that is learnt."""
    x0_lambdas: bool = False
    """Before each layer a learnt multiple of the embedded input is added again."""
    smear: bool = False
    """A gated part of the token before is added to each embedded token."""
    embed_norm: bool = False
    """Embeddings are divided by their root mean square."""
    logit_softcap: float = 0.0
    """Logits z become c tanh(z / c); 0: they do not."""

    def __post_init__(self) -> None:
        if not 0 <= self.logit_softcap < 1e4:
            raise ConfigError(f'"pretrain.parts.logit_softcap" should be from 0 to 10,000, not {self.logit_softcap:g}')

    def __bool__(self) -> bool:
        """Whether any is chosen."""
        return any(vars(self).values())

    def options(self) -> dict[str, Any]:
        """The fields of ModelConfig."""
        return {
            "gated_mlp": not self.squared_relu,
            "hidden_act": "relu2" if self.squared_relu else "silu",
            "resid_lambdas": self.resid_lambdas,
            "x0_lambdas": self.x0_lambdas,
            "smear": self.smear,
            "embed_norm": self.embed_norm,
            "final_logit_softcapping": self.logit_softcap or None,
        }


def parts_of(model: ModelConfig) -> PartsConfig:
    """Those that a model has."""
    if model.model_type != "bloomery":
        return PartsConfig()
    return PartsConfig(
        squared_relu=not model.gated,
        resid_lambdas=model.resid_lambdas,
        x0_lambdas=model.x0_lambdas,
        smear=model.smear,
        embed_norm=model.embed_norm,
        logit_softcap=model.final_logit_softcapping or 0.0,
    )


FAST_PARTS = PartsConfig(smear=True)
"""What `fast` chooses of them: what earned its place alone (docs/results.md), as value and bigram embeddings did."""
FAST: dict[str, Any] = {
    "family": "bloomery",
    "value_embeddings": True,
    "bigram_vocab_size": 16384,
    "short_rows_fraction": 0.4,
}
"""What `fast` changes of PretrainConfig. docs/results.md measures, in equal time, the arm "fast + short rows first" (4
million parameters), and "fast by 64 + short rows first" (.8 and 2 million) with other blocks of Muon: all with 8,192
bigrams. 16,384, as here, are in the decoder beside transformers' Trainer, but not yet measured beside 8,192 (the arm
"fast + short rows first, 16,384 bigrams" of `experiments/ablation_fast.py`)."""
