"""Looking inside against transformers' eager attention and hidden states: weights and lens to 1e-5 in float32.

1e-5: both compute the same sums of a few dozen terms of size one in float32, in another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bloomery.models import Decoder, load_pretrained
from bloomery.models.encoder import load_encoder
from bloomery.models.inside import Look, capture, stacks
from bloomery.models.lens import lens, residuals
from bloomery.models.seq2seq import load_seq2seq

TOLERANCE = 1e-5
BASE: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 131, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 96}
CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, grouped": ("llama", BASE),
    "llama, biases, one key head": ("llama", {**BASE, "num_key_value_heads": 1, "attention_bias": True}),
    "qwen3, norms of q and k, windows": (
        "qwen3",
        {**BASE, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "head_dim": 24},
    ),
    "gemma2": ("gemma2", {**BASE, "head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 9}),
    "gemma2, tight caps": (
        "gemma2",
        {**BASE, "head_dim": 16, "sliding_window": 4, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "gpt2": ("gpt2", GPT2),
    "bloom, six heads": ("bloom", {"vocab_size": 131, "hidden_size": 96, "n_layer": 3, "n_head": 6}),
    "gpt_neox, a part is rotated": (
        "gpt_neox",
        {key: value for key, value in BASE.items() if key != "num_key_value_heads"},
    ),
}


def _reference(kind: str, family: str, values: dict[str, Any]) -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **values)
    model = getattr(transformers, kind).from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():  # biases and norms begin at 0 and 1, where mistakes would not show
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def _all_weights(look: Look) -> Tensor:
    """(B, H, T, S)."""
    return torch.stack([look.weights(0, look.shape[2], batch=n) for n in range(look.shape[0])])


def _agrees(looks: dict[str, Look], names: list[str], expected: Any, real: Tensor | None = None) -> None:
    """`real` (B, T): the queries that are compared."""
    assert len(names) == len(expected)
    for name, theirs in zip(names, expected, strict=True):
        ours = _all_weights(looks[name])
        assert ours.shape == theirs.shape
        difference = (ours - theirs).abs().amax(dim=(1, 3))
        assert (difference if real is None else difference[real]).max() < TOLERANCE, name
        assert (ours.sum(-1) - 1).abs().max() < TOLERANCE
        assert looks[name].max_difference() < TOLERANCE


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory):
    made: dict[str, tuple[Decoder, Any]] = {}

    def make(shape: str) -> tuple[Decoder, Any]:
        if shape not in made:
            folder = tmp_path_factory.mktemp("model")
            theirs = _reference("AutoModelForCausalLM", *CAUSAL[shape])
            theirs.save_pretrained(folder)
            made[shape] = load_pretrained(folder), theirs
        return made[shape]

    return make


@pytest.mark.parametrize("shape", CAUSAL)
@torch.inference_mode()
def test_causal(causal: Any, shape: str):
    ours, theirs = causal(shape)
    ids = torch.randint(3, 131, (2, 37), generator=torch.Generator().manual_seed(1))
    expected = theirs(ids, output_attentions=True, output_hidden_states=True)
    with capture(ours) as looks, residuals(ours) as found:
        logits = ours(ids)
    (names,) = stacks(ours).values()
    _agrees(looks, names, expected.attentions)
    # Theirs has the last norm in the last one, and ours has it nowhere.
    for mine, other in zip(found[:-1], expected.hidden_states[:-1], strict=True):
        assert (mine - other).abs().max() < TOLERANCE * max(1.0, float(other.abs().max()))
    body = theirs.transformer if hasattr(theirs, "transformer") else theirs.get_decoder()
    norm = next(getattr(body, name) for name in ("norm", "ln_f", "final_layer_norm") if hasattr(body, name))
    cap = getattr(theirs.config, "final_logit_softcapping", None)
    for mine, other in zip(found[:-1], expected.hidden_states[:-1], strict=True):
        read = theirs.get_output_embeddings()(norm(other))
        read = read if cap is None else torch.tanh(read / cap) * cap
        assert (lens(ours, mine) - read).abs().max() < TOLERANCE * max(1.0, float(read.abs().max()))
    assert torch.equal(lens(ours, found[-1]), logits)


@pytest.mark.parametrize("shape", CAUSAL)
@torch.inference_mode()
def test_every_step_of_one_row(causal: Any, shape: str):
    ours, theirs = causal(shape)
    ids = torch.randint(3, 131, (2, 21), generator=torch.Generator().manual_seed(2))
    expected = theirs(ids, output_attentions=True).attentions
    (names,) = stacks(ours).values()
    with capture(ours, names[1:2]) as looks:
        ours(ids)
    look = looks[names[1]]
    module = ours.model.layers[1].self_attn
    total = torch.zeros_like(look.served[1, 17])
    for head in range(module.heads):
        row = look.row(head, 17, batch=1)
        assert (row.weights - expected[1][1, head, 17]).abs().max() < TOLERANCE
        assert torch.allclose(row.products, row.keys @ row.query, atol=TOLERANCE)
        assert torch.allclose(row.scaled, row.products * module.scale, atol=TOLERANCE)
        cap = module.softcap
        assert torch.allclose(row.capped, row.scaled if cap is None else cap * (row.scaled / cap).tanh(), atol=1e-5)
        assert (row.masked[18:] == -torch.inf).all() and (row.weights[18:] == 0).all()
        assert torch.allclose(row.value_norms.sum(), row.value_norms[:18].sum()) and row.head_output.shape == (
            module.head_dim,
        )
        assert row.contribution is not None
        total += row.contribution
    bias = 0 if module.o_proj.bias is None else module.o_proj.bias
    # The layer's output is the sum of what its heads contribute.
    assert (total + bias - look.served[1, 17]).abs().max() < TOLERANCE


@torch.inference_mode()
def test_a_padded_batch_of_bert(tmp_path: Path):
    values = {key: value for key, value in BASE.items() if key not in ("num_key_value_heads",)}
    theirs = _reference("AutoModelForMaskedLM", "bert", values)
    theirs.save_pretrained(tmp_path)
    ours = load_encoder(tmp_path)
    ids = torch.randint(6, 131, (3, 31), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 20:] = mask[2, 4:] = 0
    expected = theirs(ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    with capture(ours) as looks, residuals(ours) as found:
        logits = ours(ids, mask)
    (names,) = stacks(ours).values()
    _agrees(looks, names, expected.attentions, mask.bool())
    assert looks[names[0]].row(1, 3, batch=2).weights[4:].max() == 0
    for mine, other in zip(found, expected.hidden_states, strict=True):
        assert (mine - other)[mask.bool()].abs().max() < TOLERANCE
        assert (lens(ours, mine) - theirs.cls(other))[mask.bool()].abs().max() < TOLERANCE
    assert torch.equal(lens(ours, found[-1]), logits)


@torch.inference_mode()
def test_modernbert_sees_near_and_far(tmp_path: Path):
    values = {key: value for key, value in BASE.items() if key not in ("num_key_value_heads",)}
    values |= {"num_hidden_layers": 4, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2}
    theirs = _reference("AutoModelForMaskedLM", "modernbert", values)
    theirs.save_pretrained(tmp_path)
    ours = load_encoder(tmp_path)
    ids = torch.randint(6, 131, (2, 31), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    expected = theirs(ids, attention_mask=mask, output_attentions=True)
    with capture(ours) as looks:
        ours(ids, mask)
    (names,) = stacks(ours).values()
    _agrees(looks, names, expected.attentions, mask.bool())


@torch.inference_mode()
def test_t5_self_and_cross(tmp_path: Path):
    sizes = {"vocab_size": 131, "d_model": 48, "d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4}
    buckets = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}
    theirs = _reference("AutoModelForSeq2SeqLM", "t5", {**sizes, **buckets, "decoder_start_token_id": 0})
    theirs.save_pretrained(tmp_path)
    ours = load_seq2seq(tmp_path)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 131, (2, 33), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    target = torch.randint(3, 131, (2, 27), generator=generator)
    kept = {"output_attentions": True, "output_hidden_states": True}
    expected = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=target, **kept)
    with capture(ours) as looks, residuals(ours) as found:
        logits = ours(ids, target, mask)
    names = stacks(ours)
    assert list(names) == ["encoder.layers.self_attn", "decoder.layers.self_attn", "decoder.layers.cross_attn"]
    _agrees(looks, names["encoder.layers.self_attn"], expected.encoder_attentions, mask.bool())
    _agrees(looks, names["decoder.layers.self_attn"], expected.decoder_attentions)
    _agrees(looks, names["decoder.layers.cross_attn"], expected.cross_attentions)
    for mine, other in zip(found[:-1], expected.decoder_hidden_states[:-1], strict=True):
        assert (mine - other).abs().max() < TOLERANCE * max(1.0, float(other.abs().max()))
        read = theirs.lm_head(theirs.decoder.final_layer_norm(other) * sizes["d_model"] ** -0.5)
        assert (lens(ours, mine) - read).abs().max() < TOLERANCE * max(1.0, float(read.abs().max()))
    assert torch.equal(lens(ours, found[-1]), logits)
    # Products, bias and weights of one row: T5 scales nothing.
    row = looks["decoder.layers.1.self_attn"].row(2, 11, batch=1)
    assert torch.equal(row.products, row.scaled)
    assert (row.masked[:12] - row.scaled[:12]).abs().min() > 0
    assert (row.weights - expected.decoder_attentions[1][1, 2, 11]).abs().max() < TOLERANCE


def test_real_weights_through_text(shared_data: Path, tmp_path: Path):
    """stories260K: what a user is shown, against the reference's eager attention; 4e-5, for scores reach 20."""
    import importlib.util

    from transformers import AutoModelForCausalLM

    from bloomery.engine import open_glass_box

    spec = importlib.util.spec_from_file_location("llama2c", Path(__file__).with_name("llama2c.py"))
    assert spec is not None and spec.loader is not None
    llama2c = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(llama2c)
    weights = shared_data / "weights"
    llama2c.convert_llama2c(weights / "stories260K.bin", weights / "tok512.bin", tmp_path)
    box = open_glass_box(tmp_path, device="cpu")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    text = "Lily saw a big red ball. She wanted to play with it. " * 6
    for layer in range(5):
        view = box.attention(text, layer=layer, head=layer, query=-1)
        ids = torch.tensor([[token.token_id for token in view.queries]])
        with torch.inference_mode():
            expected = theirs(ids, output_attentions=True).attentions[layer][0]
        assert (torch.tensor(view.grid.means) - expected[layer]).abs().max() < 4e-5
        best = expected[:, -1].max(dim=-1)
        assert [one.key for one in view.all_heads] == best.indices.tolist()
        assert view.max_difference < 4e-5
    # The story goes on as it does, and the lens ends there.
    lens_view = box.lens("Once upon a", top=1)
    assert lens_view.layers[-1].guesses[0].text == " time" and lens_view.layers[-1].guesses[0].logprob > -0.01
