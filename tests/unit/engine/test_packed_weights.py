"""Weights as asked at load: the same model in another format, or a mistake in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.engine import LanguageModel, load, load_language_model, load_text_encoder
from bloomery.engine.exchange import export_model
from bloomery.engine.packed_weights import WEIGHTS, check_weights, load_decoder, pack_loaded, refuse_weights
from bloomery.models import packed_choice
from bloomery.models.inside import capture
from bloomery.models.packing import packing_of
from bloomery.models.seq2seq import load_seq2seq

CPU = torch.device("cpu")
IDS = torch.arange(40)[None]


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("weights", [None, "plain"])
def test_nothing_changes_unless_asked(tiny_folder: Path, tiny: LanguageModel, weights: str | None):
    model = load(tiny_folder, device="cpu", weights=weights)
    assert isinstance(model, LanguageModel) and packing_of(model.decoder) is None
    assert torch.equal(model.logits(IDS), tiny.logits(IDS))
    model.close()


@pytest.mark.parametrize(
    ("weights", "bound"),
    [("float32", 1e-5), ("float16", 2e-3), ("int8", 0.08), ("int8-weight-only", 0.05), ("int4", 0.35)],
)
def test_a_format_stays_within_what_explains_it(tiny_folder: Path, tiny: LanguageModel, weights: str, bound: float):
    model = load_language_model(tiny_folder, device="cpu", weights=weights)
    done = packing_of(model.decoder)
    assert done is not None and done.format == weights and not done.fallbacks
    assert error(model.logits(IDS), tiny.logits(IDS)) <= bound
    result = model.generate([1, 2, 3], max_new_tokens=8, temperature=0.0, ignore_eos=True)
    assert len(result.token_ids) == 8
    if weights == "float32":
        assert (
            result.token_ids == tiny.generate([1, 2, 3], max_new_tokens=8, temperature=0.0, ignore_eos=True).token_ids
        )
    model.close()


def test_eight_bit_requests_do_not_depend_on_who_else_is_served(tiny_folder: Path):
    """FBGEMM rounds the activations of a whole batch by one range; here each row has its own."""
    model = load_language_model(tiny_folder, device="cpu", weights="int8")
    prompts = [[5, 6, 7], [9, 9, 9, 9, 9], [30, 20, 10, 4]]
    options: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0.0, "ignore_eos": True}
    alone = [model.generate(prompt, **options) for prompt in prompts]
    streams = [model.stream(prompt, **options) for prompt in prompts]
    together: list[list[int]] = [[] for _ in prompts]
    left = set(range(len(prompts)))
    while left:
        for number in sorted(left):
            delta = next(streams[number])
            together[number] += delta.token_ids
            if delta.result is not None:
                left.remove(number)
    assert together == [list(result.token_ids) for result in alone]
    model.close()


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_quantised_folder_is_served_as_it_is(tiny_folder: Path, tmp_path: Path, quantize: str):
    """What is read back is exactly what packing the model itself makes."""
    folder = export_model(tiny_folder, tmp_path / "out", quantize=quantize)
    ours = load_language_model(tiny_folder, device="cpu", weights=quantize)
    back = load_language_model(folder, device="cpu")
    done = packing_of(back.decoder)
    assert done is not None and done.format == quantize and not done.fallbacks
    assert torch.equal(back.logits(IDS), ours.logits(IDS))
    plain = load_language_model(folder, device="cpu", weights="plain")
    assert packing_of(plain.decoder) is None
    assert error(back.logits(IDS), plain.logits(IDS)) < 0.08  # activations and the head are rounded too
    other = load_language_model(folder, device="cpu", weights="float16")
    assert error(other.logits(IDS), plain.logits(IDS)) < 2e-3
    for model in (ours, back, plain, other):
        model.close()


def test_auto_takes_what_was_measured(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed_choice, "measure", lambda *_, **__: dict.fromkeys(packed_choice.CPU_FORMATS, 2.0))
    decoder = load_decoder(tiny_folder, CPU, torch.float32, "auto")
    done = packing_of(decoder)
    assert done is not None and done.format in packed_choice.CPU_FORMATS
    plain = load_decoder(tiny_folder, CPU, torch.float32, None)
    ids = packed_choice.written_by(plain, 4, 24)
    assert packed_choice.divergence(plain, decoder, ids) <= packed_choice.MAX_LOSS_NATS


def test_an_encoder(tmp_path: Path):
    from transformers import BertConfig, BertModel

    from bloomery.models.encoder import load_encoder

    config = BertConfig(vocab_size=64, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
    torch.manual_seed(0)
    BertModel(config).save_pretrained(tmp_path)
    plain, packed = (load_encoder(tmp_path, dtype=torch.float32) for _ in range(2))
    pack_loaded(packed, "int8")
    assert packing_of(packed) is not None
    got, expected = (m.hidden_states(IDS) for m in (packed, plain))
    assert error(got, expected) < 0.08
    with pytest.raises(ConfigError, match="for decoders"):
        pack_loaded(plain, "auto")
    pack_loaded(plain, None)
    assert packing_of(plain) is None


def test_texts_for_texts(tmp_path: Path):
    """Cross attention reads keys and values of another sequence than its queries."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=64, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
        decoder_start_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    plain, packed = (load_seq2seq(tmp_path, dtype=torch.float32) for _ in range(2))
    pack_loaded(packed, "float16")
    with torch.inference_mode():
        got, expected = (model(IDS, IDS[:, :9]) for model in (packed, plain))
    assert error(got, expected) < 2e-3


def test_looking_inside_a_packed_model(tiny_folder: Path):
    """What is recomputed of an attention is what the packed model served."""
    model = load_language_model(tiny_folder, device="cpu", weights="float16")
    with torch.inference_mode(), capture(model.decoder) as looks:
        model.decoder(IDS)
        assert len(looks) == 2 and all(look.max_difference() < 1e-4 for look in looks.values())
        assert torch.isfinite(next(iter(looks.values())).row(1, 5).contribution).all()
    model.close()


def test_mistakes(tiny_folder: Path):
    with pytest.raises(ConfigError, match="unknown weights 'int9'") as caught:
        load(tiny_folder, device="cpu", weights="int9")
    assert "int8" in caught.value.one_line()
    with pytest.raises(ConfigError, match=r"float32, not torch\.bfloat16"):
        load(tiny_folder, device="cpu", dtype="bfloat16", weights="int8")
    with pytest.raises(ConfigError, match="cannot be packed"):
        refuse_weights("int8", "a picture classifier")
    refuse_weights("plain", "x")
    check_weights(None)
    assert WEIGHTS[:2] == ("plain", "auto")
    with pytest.raises(ConfigError):
        load_text_encoder(tiny_folder, device="cpu", weights="int8")
