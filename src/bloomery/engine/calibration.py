"""Text for weights to be fitted to: a decoder's integers from what it computes on some of it (see `models.calibrated`).

This module does not know where texts come from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from bloomery.core.errors import DataError
from bloomery.models.calibrated import calibrated
from bloomery.models.compressed import Scheme
from bloomery.models.decoder import Decoder
from bloomery.models.pretrained import scale_dtype
from bloomery.models.quantize import QuantizedWeight
from bloomery.tokenizer import Tokenizer

CALIBRATION_TOKENS = 32_768
_WINDOW, _ROWS, _LEAST = 512, 8, 256


def fitted_codes(
    decoder: Decoder,
    scheme: Scheme,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    tokens: int = CALIBRATION_TOKENS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, QuantizedWeight]:
    """The integers of a decoder's layers, by name, fitted to `tokens` of some texts.

    DataError for less than 256 tokens.
    """
    batches = list(windows(tokenizer, texts, min(_WINDOW, decoder.context_length), tokens))
    if sum(batch.numel() for batch in batches) < _LEAST:
        raise DataError(f"to fit weights takes a text of {_LEAST} tokens or more", hint="a longer text for --calibrate")
    dtype = next(decoder.parameters()).dtype
    model = decoder if dtype == torch.float32 else copy.deepcopy(decoder).float()
    kind = scale_dtype(dtype)
    return calibrated(model, scheme.bits, scheme.group_size, batches, scale_dtype=kind, progress=progress)


def windows(tokenizer: Tokenizer, texts: Iterable[str], length: int, tokens: int) -> Iterator[Tensor]:
    """Texts one after another as rows of ids, (up to 8, T) at a time, of so many `tokens`, from all over them where
    there are more; the rest that does not fill a row is left out, unless it is all that there is."""
    ids = [token for text in texts for token in tokenizer.encode(text)]
    rows = [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)] or ([ids] if ids else [])
    wanted = min(len(rows), max(1, tokens // length))
    rows = [rows[number * len(rows) // wanted] for number in range(wanted)]
    for start in range(0, len(rows), _ROWS):
        yield torch.tensor(rows[start : start + _ROWS])
