"""Every encoder family against transformers: random weights both ways, hidden states and heads within 1e-4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.models.encoder import load_encoder, save_encoder

BASE: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
}
MODERN = {**BASE, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 8}
SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "bert": {
        "plain": BASE,
        "one kind of segment": {**BASE, "type_vocab_size": 1, "num_attention_heads": 8},
        "relu, eps": {**BASE, "hidden_act": "relu", "layer_norm_eps": 1e-5, "num_hidden_layers": 1},
        "three labels": {**BASE, "num_labels": 3, "hidden_size": 48},
    },
    "roberta": {
        "plain": {**BASE, "type_vocab_size": 1, "pad_token_id": 1},
        "other padding": {**BASE, "pad_token_id": 5, "num_attention_heads": 2},
        "new gelu": {**BASE, "hidden_act": "gelu_new", "pad_token_id": 1},
    },
    "modernbert": {
        "plain": MODERN,
        "biases": {**MODERN, **{f"{k}_bias": True for k in ("attention", "mlp", "norm", "classifier")}},
        "every second global": {**MODERN, "global_attn_every_n_layers": 2, "local_attention": 6},
        "mean": {**MODERN, "classifier_pooling": "mean", "decoder_bias": False, "num_labels": 5},
        "thetas": {**MODERN, "global_rope_theta": 5000.0, "local_rope_theta": 50.0},
        "listed": {**MODERN, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
    },
}
HEADS = {"none": "AutoModel", "masked": "AutoModelForMaskedLM", "sequence": "AutoModelForSequenceClassification"}
HEADS["token"] = "AutoModelForTokenClassification"
CASES = [(family, shape, head) for family, shapes in SHAPES.items() for shape in shapes for head in HEADS]


def _reference(family: str, shape: str, head: str) -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **SHAPES[family][shape])
    extra = {"add_pooling_layer": False} if head == "none" and family != "modernbert" else {}
    model = getattr(transformers, HEADS[head]).from_config(config, attn_implementation="eager", **extra).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.06))
    return model


def _batch(family: str, shape: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(6, 131, (3, 41), generator=generator)
    mask = torch.ones_like(ids)
    for row, end in ((1, 25), (2, 7)):
        mask[row, end:] = 0
        ids[row, end:] = SHAPES[family][shape]["pad_token_id"]
    batch = {"input_ids": ids, "attention_mask": mask}
    if family == "bert":
        kinds = SHAPES[family][shape].get("type_vocab_size", 2)
        batch["token_type_ids"] = torch.randint(0, kinds, (3, 41), generator=generator)
    return batch


@torch.inference_mode()
def _compare(ours: Any, theirs: Any, batch: dict[str, torch.Tensor], head: str) -> None:
    real = batch["attention_mask"].bool()
    if head == "none":
        got, expected = ours.hidden_states(**batch)[real], theirs(**batch).last_hidden_state[real]
    elif head == "sequence":
        got, expected = ours(**batch), theirs(**batch).logits
    else:
        got, expected = ours(**batch)[real], theirs(**batch).logits[real]
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1e-4
    if head != "sequence":  # without a mask, as for a single text
        row = {key: value[:1] for key, value in batch.items() if key != "attention_mask"}
        out = theirs(**row)
        alone = ours.hidden_states(**row) if head == "none" else ours(**row)
        assert (alone - (out.last_hidden_state if head == "none" else out.logits)).abs().max() < 1e-4


@pytest.mark.parametrize(("family", "shape", "head"), CASES, ids=lambda s: s.replace(" ", "-"))
def test_both_ways(family: str, shape: str, head: str, tmp_path: Path):
    import transformers

    theirs = _reference(family, shape, head)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_encoder(tmp_path / "theirs")
    assert ours.config.head == head
    batch = _batch(family, shape)
    _compare(ours, theirs, batch, head)
    save_encoder(ours, tmp_path / "ours")
    extra = {"add_pooling_layer": False} if head == "none" and family != "modernbert" else {}
    back, told = getattr(transformers, HEADS[head]).from_pretrained(
        tmp_path / "ours", output_loading_info=True, **extra
    )
    assert not told["missing_keys"] and not told["unexpected_keys"]
    _compare(ours, back.eval(), batch, head)


def test_a_base_model_with_its_pooler(tmp_path: Path):
    """As sentence encoders are published: the pooler is in the file, and nobody asks for it."""
    import transformers

    theirs = transformers.BertModel(transformers.BertConfig(**BASE)).eval()
    theirs.save_pretrained(tmp_path)
    _compare(load_encoder(tmp_path), theirs, _batch("bert", "plain"), "none")


def test_the_original_pre_training_model(tmp_path: Path):
    """bert-base-uncased has the sentence-order head beside the masked one."""
    import transformers

    theirs = transformers.BertForPreTraining(transformers.BertConfig(**BASE)).eval()
    theirs.save_pretrained(tmp_path)
    ours, batch = load_encoder(tmp_path), _batch("bert", "plain")
    with torch.inference_mode():
        assert (ours(**batch) - theirs(**batch).prediction_logits)[batch["attention_mask"].bool()].abs().max() < 1e-4


@pytest.mark.parametrize(
    "mode", ["cls", "max", "mean", "lasttoken", "weightedmean", "mean_sqrt_len_tokens", "mean+cls"]
)
@pytest.mark.parametrize("dense", [False, True])
def test_sentence_transformers_folders(mode: str, dense: bool, tmp_path: Path):
    """Every pooling, and layers after it, as sentence-transformers writes and computes them; what was imported and
    exported is such a folder still."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    import bloomery as bl
    from bloomery.engine.exchange import export_model, import_model

    torch.manual_seed(0)
    plain = tmp_path / "plain"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "iron", "##s", "a", "furnace", "hot", "Hot"]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(plain)
    (plain / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(plain / "vocab.txt"), do_lower_case=False).save_pretrained(plain)
    modules: list[torch.nn.Module] = [Transformer(str(plain)), Pooling(32, tuple(mode.split("+")))]
    if dense:
        width = 32 * len(mode.split("+"))
        modules += [Dense(width, 16), Dense(16, 12, bias=False, activation_function=torch.nn.Identity()), Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.save(str(tmp_path / "saved"))
    texts = ["iron", "a Hot furnace irons a furnace", "Hot iron"]
    expected = theirs.encode(texts)
    made = import_model(tmp_path / "saved", workspace=tmp_path / "home")
    out = export_model(made, tmp_path / "out")
    for folder in (tmp_path / "saved", made.path, out):
        ours = bl.load(folder, device="cpu")
        assert ours.embed(texts).shape == expected.shape
        assert abs(ours.embed(texts) - expected).max() < 1e-5
    assert abs(SentenceTransformer(str(out), device="cpu").encode(texts) - expected).max() < 1e-5
    described = json.loads((out / "sentence_bert_config.json").read_text())
    (out / "sentence_bert_config.json").write_text(json.dumps({**described, "do_lower_case": True}))
    small = bl.load(out, device="cpu").embed(texts)
    assert abs(small - theirs.encode([text.lower() for text in texts])).max() < 1e-5
