"""Texts for weights to be fitted to: rows of one length, and integers that lose less on such texts."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import DataError
from bloomery.engine import LanguageModel
from bloomery.engine.calibration import fitted_codes, windows
from bloomery.models.compressed import scheme_named
from bloomery.models.packing import linear_layers
from bloomery.models.quantize import quantize

TEXTS = ["Once upon a time there was a small furnace. " * 4, "It was warm, and iron ran out of it. " * 9]


def test_windows_are_the_texts_one_after_another(tiny: LanguageModel) -> None:
    ids = [token for text in TEXTS for token in tiny.tokenizer.encode(text)]
    rows = torch.cat(list(windows(tiny.tokenizer, TEXTS, 16, 10_000)))
    assert rows.flatten().tolist() == ids[: len(ids) // 16 * 16]
    batches = list(windows(tiny.tokenizer, TEXTS, 8, 10_000))
    assert all(batch.shape[1] == 8 and len(batch) <= 8 for batch in batches)
    assert sum(batch.numel() for batch in windows(tiny.tokenizer, TEXTS, 16, 48)) == 48
    spread = torch.cat(list(windows(tiny.tokenizer, TEXTS, 8, 32)))  # four of all rows, from all over them
    count = len(ids) // 8
    assert spread.tolist() == [ids[8 * place : 8 * place + 8] for place in (number * count // 4 for number in range(4))]
    short = list(windows(tiny.tokenizer, ["iron"], 512, 10_000))
    assert [batch.tolist() for batch in short] == [[tiny.tokenizer.encode("iron")]]
    assert list(windows(tiny.tokenizer, [], 16, 100)) == []


def test_too_little_text_is_refused(tiny: LanguageModel) -> None:
    with pytest.raises(DataError, match="256 tokens"):
        fitted_codes(tiny.decoder, scheme_named("int4", 32), tiny.tokenizer, ["iron"])


def test_fitted_integers_change_outputs_less_than_rounded_ones(tiny: LanguageModel) -> None:
    """Logits on the text itself, beside each weight rounded to its nearest: what the fit is for."""
    scheme, heard = scheme_named("int4", 32), list[tuple[int, int]]()
    texts = TEXTS * 8
    found = fitted_codes(tiny.decoder, scheme, tiny.tokenizer, texts, progress=lambda *at: heard.append(at))
    assert heard[-1][0] == heard[-1][1] > 0
    ids = torch.cat(list(windows(tiny.tokenizer, texts, 64, 512)))
    layers = {path: layer for path, _, _, layer in linear_layers(tiny.decoder)}
    assert set(found) <= set(layers) and found
    kept = {path: layers[path].weight.detach().clone() for path in found}
    with torch.no_grad():
        expected = tiny.decoder(ids)
        errors = []
        for fit in (True, False):
            for path, weight in kept.items():
                made = found[path] if fit else quantize(weight, 4, 32)
                layers[path].weight.copy_(made.dequantized())
            errors.append(float((tiny.decoder(ids) - expected).square().mean()))
        for path, weight in kept.items():
            layers[path].weight.copy_(weight)
    assert errors[0] < errors[1]
