"""More rows for the tokens that a decoder reads and writes, each begun as the mean of the tokens that it is made of.

Gee et al. (2022, "Fast vocabulary transfer for language model compression", arXiv:2402.09977) begin a new token so; a
token of which no parts are known gets the mean of all rows, as Hewitt has it (2021, "Initializing new word embeddings
for pretrained language models", nlp.stanford.edu/~johnhew/vocab-expansion.html). Either way its logit is the mean of
old tokens' logits: it cannot take the probability from them, as a row of small random numbers may, and begins near its
parts. Shapes: V vocabulary, E hidden_size. This module does not know tokenizers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.models.decoder import Decoder
from bloomery.models.packing import packing_of


@torch.no_grad()
def extend_vocabulary(decoder: Decoder, pieces: Mapping[int, Sequence[int]]) -> None:
    """Give each new id, in place, the mean of the rows of the ids that it is made of: in the embedding, in the output
    head where it is a matrix of its own, in value embeddings. Rows are added where the model has too few; rows beyond
    its tokenizer that it has already (padding) are used first.

    ConfigError for a decoder whose weights are packed, or that hashes neighbouring ids, and for a piece without a row.
    """
    config = decoder.config
    if packing_of(decoder) is not None:
        raise ConfigError("packed weights are not extended", hint="load the model without weights=")
    if config.bigram_vocab_size:
        raise ConfigError("a decoder with bigram embeddings cannot be extended: they depend on the number of ids")
    known = config.vocab_size
    if not all(0 <= index < known for parts in pieces.values() for index in parts):
        raise ConfigError(f"a new token is made of ids beyond the {known:,} rows of the model")
    rows = max(known, max(pieces, default=-1) + 1)
    tables: list[nn.Embedding | nn.Linear] = [decoder.model.embed_tokens]
    tables += [table for table in decoder.model.embed_values.values() if isinstance(table, nn.Embedding)]
    if decoder.lm_head is not None:
        tables.append(decoder.lm_head)
    for table in tables:
        grown = _grown(table.weight, pieces, rows)
        table.weight = nn.Parameter(grown, requires_grad=table.weight.requires_grad)
        if isinstance(table, nn.Embedding):
            table.num_embeddings = rows
        else:
            table.out_features = rows
    decoder.config = dataclasses.replace(config, vocab_size=rows)


def _grown(old: Tensor, pieces: Mapping[int, Sequence[int]], rows: int) -> Tensor:
    """(V, E) -> (rows, E) in the same dtype; means are taken in float32. Rows that nothing is said of get the mean of
    all, as a token that was never seen."""
    new = old.new_empty(rows, old.size(1))
    new[: old.size(0)] = old
    if rows > old.size(0):
        new[old.size(0) :] = old.float().mean(dim=0).to(old.dtype)
    for index, parts in pieces.items():
        new[index] = old[torch.tensor(list(parts), device=old.device)].float().mean(dim=0).to(old.dtype)
    return new
