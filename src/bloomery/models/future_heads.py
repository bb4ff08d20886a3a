"""Extra heads of a decoder, each a token further ahead: guesses that one step of the decoder then checks together.

Medusa's heads (Cai et al., arXiv 2401.10774) guess every token from the last state alone; here each also reads the
token that the one before it guessed (Hydra: Ankner et al., arXiv 2402.05109), for what follows depends on it:

    s_0 = the decoder's last state, after its norm;   s_k = s_{k-1} + down_k(silu(up_k(norm(s_{k-1}), norm(e(t_k)))))
    logits_k = the decoder's own output head of s_k

t_k is the k-th token after the state's own, e the decoder's embedding. A head costs 3 E^2 weights and one product with
the output head. Shapes: B batch, T length, E hidden size. This module does not know how guesses are checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bloomery.core.artifact import write_durably
from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.models.decoder import Decoder
from bloomery.models.outline import shapes_only
from bloomery.models.weights import as_json, read_json, write_tensors

KIND = "heads"
"""Of their artifacts."""
CONFIG, WEIGHTS = "heads.json", "heads.safetensors"
_MOST, _WIDEST, _MOST_TOKENS = 8, 1 << 17, 1 << 22


@dataclass(frozen=True, kw_only=True)
class FutureHeadsConfig:
    """How many heads there are, and of what model."""

    heads: int
    hidden_size: int
    vocab_size: int
    base: str = ""
    """The content id of the model that they were trained for."""

    def __post_init__(self) -> None:
        if not 1 <= self.heads <= _MOST:
            raise ConfigError(f"{self.heads} extra heads are not supported", hint=f"1 to {_MOST}")
        if not 1 <= self.hidden_size <= _WIDEST or not 1 <= self.vocab_size <= _MOST_TOKENS:
            raise ConfigError(
                f"heads of a model {self.hidden_size} wide with {self.vocab_size} tokens are not supported"
            )


class FutureHead(nn.Module):
    """One of them."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.down = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.zeros_(self.down.weight)  # it begins with what the decoder expects next

    def forward(self, state: Tensor, embedded: Tensor) -> Tensor:
        """(..., E) twice -> (..., E)."""
        size = state.shape[-1:]
        both = torch.cat((F.rms_norm(state, size), F.rms_norm(embedded, size)), dim=-1)
        return state + self.down(F.silu(self.up(both)))


class FutureHeads(nn.Module):
    """See the module; the decoder is not a part of it."""

    def __init__(self, config: FutureHeadsConfig) -> None:
        super().__init__()
        self.config = config
        self.heads = nn.ModuleList(FutureHead(config.hidden_size) for _ in range(config.heads))

    def check(self, decoder: Decoder) -> None:
        """ConfigError for a decoder of another size."""
        have = decoder.config.hidden_size, decoder.config.vocab_size
        if have != (self.config.hidden_size, self.config.vocab_size):
            raise ConfigError(
                f"the heads are of a model {self.config.hidden_size} wide with {self.config.vocab_size:,} tokens, not "
                f"{have[0]} and {have[1]:,}",
                hint="bloomery adapt MODEL TEXT --method heads trains some",
            )

    def save(self, folder: Path) -> None:
        """Write heads.json and heads.safetensors, flushed to disk."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_tensors(tensors, folder / WEIGHTS)
        write_durably(folder / CONFIG, as_json(dict(vars(self.config))))

    @classmethod
    def load(cls, folder: Path) -> FutureHeads:
        """Read what `save` wrote. DataError for what is none, or does not fit."""
        values: dict[str, Any] = read_json(folder / CONFIG)
        try:
            config = from_dict(FutureHeadsConfig, values)
        except ConfigError as error:
            raise DataError(f"{folder / CONFIG}: {error.message}", hint=error.hint) from error
        with shapes_only():  # sizes are compared before any memory is taken
            made = cls(config)
        try:
            made.load_state_dict(load_file(folder / WEIGHTS), assign=True)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise DataError(f"{folder / WEIGHTS} does not fit {CONFIG}: {str(error).partition(chr(10))[0]}") from error
        return made.float().eval()
