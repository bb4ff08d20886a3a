"""Models that objectives ask for: families that fit, heads that are exchanged, weights that are kept."""

from __future__ import annotations

import gzip

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder, save_pretrained
from bloomery.models.decoder_classifier import DecoderClassifier
from bloomery.models.encoder import Encoder, save_encoder
from bloomery.models.recurrent import RecurrentSeq2Seq, save_recurrent
from bloomery.models.seq2seq import Seq2Seq, save_seq2seq
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.training.building import FAMILIES, NetConfig, build, rebuild, with_head

SMALL = {"hidden_size": 32, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def tokenizer(material) -> Tokenizer:
    return Tokenizer.load(material.tokenizer.path)


@pytest.mark.parametrize(("objective", "family"), [(o, f) for o, known in FAMILIES.items() for f in known])
def test_every_family_is_built_for_its_objectives(tokenizer, objective, family):
    own = {"value_embeddings": True, "bigram_vocab_size": 64} if family == "bloomery" else {}
    net = NetConfig(family=family, dropout=0.1, **SMALL, **own)  # type: ignore[arg-type]
    model = build(objective, net, tokenizer, context_length=32, num_labels=3)
    assert all(p.requires_grad for p in model.parameters())
    ids = torch.tensor([[1, 2, 3, 4]])
    if objective in ("classes", "values"):
        assert model(ids, torch.ones_like(ids)).shape == (1, 3)
    elif objective == "tags":
        assert model(ids).shape == (1, 4, 3)


def test_dropout_reaches_the_families_that_have_it(tokenizer):
    for family in ("t5", "gru"):
        net = NetConfig(family=family, dropout=0.3, **SMALL)  # type: ignore[arg-type]
        model = build("sequence", net, tokenizer, context_length=32)
        assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}


def test_a_family_that_does_not_fit(tokenizer):
    with pytest.raises(ConfigError, match="cannot be trained as 'masked'"):
        build("masked", NetConfig(family="gru"), tokenizer, context_length=32)


def test_windows_hide_what_is_far_below_the_last_layer(tokenizer):
    net = NetConfig(hidden_size=32, num_hidden_layers=2, local_attention=4)
    encoder = build("masked", net, tokenizer, context_length=32)
    assert isinstance(encoder, Encoder)
    assert encoder.config.layer_types == ("sliding_attention", "full_attention")
    seen: list[torch.Tensor] = []

    def note(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        seen.append(output)

    encoder.layers[0].register_forward_hook(note)
    ids = torch.arange(20)[None]
    after = [encoder.eval().hidden_states(x) for x in (ids, ids.index_fill(1, torch.tensor([10]), 30))]
    below, above = ((a - b).abs().amax(-1)[0] > 0 for a, b in (seen, after))
    assert below.nonzero().flatten().tolist() == [8, 9, 10, 11, 12]  # two on either side
    assert above.all()
    with pytest.raises(ConfigError, match="no windows"):
        build("masked", NetConfig(family="bert", local_attention=4), tokenizer, context_length=32)


def test_embeddings_of_our_own_are_asked_for_by_name(tokenizer):
    net = NetConfig(family="bloomery", value_embeddings=True, num_hidden_layers=4, hidden_size=32)
    model = build("causal", net, tokenizer, context_length=32)
    assert isinstance(model, Decoder) and model.config.value_embedding_layers == (1, 3)
    with pytest.raises(ConfigError, match="'qwen3' has no value or bigram embeddings"):
        build("causal", NetConfig(bigram_vocab_size=64), tokenizer, context_length=32)
    with pytest.raises(ConfigError, match="has none of them"):
        build("causal", NetConfig(family="bloomery"), tokenizer, context_length=32)


def test_the_body_is_kept_under_another_head(tokenizer):
    masked = build("masked", NetConfig(**SMALL), tokenizer, context_length=32)  # type: ignore[arg-type]
    assert isinstance(masked, Encoder)
    made = with_head(masked, "sequence", 3)
    ids = torch.tensor([[1, 2, 3, 4]])
    masked.eval(), made.eval()
    assert torch.equal(masked.hidden_states(ids), made.hidden_states(ids)) and made(ids).shape == (1, 3)
    assert with_head(masked, "masked") is masked


def test_models_that_are_there(tokenizer, tmp_path):
    cases = {
        "masked": (Encoder, save_encoder, "classes", Encoder),
        "causal": (Decoder, save_pretrained, "classes", DecoderClassifier),
        "spans": (Seq2Seq, save_seq2seq, "sequence", Seq2Seq),
        "sequence": (RecurrentSeq2Seq, save_recurrent, "sequence", RecurrentSeq2Seq),
    }
    for objective, (kind, save, other, made) in cases.items():
        family = "gru" if kind is RecurrentSeq2Seq else ""
        model = build(objective, NetConfig(family=family, **SMALL), tokenizer, context_length=32)  # type: ignore[arg-type]
        assert isinstance(model, kind)
        save(model, tmp_path / objective)  # type: ignore[arg-type]
        again = rebuild(other, tmp_path / objective, tokenizer, num_labels=4)
        assert isinstance(again, made) and all(p.requires_grad for p in again.parameters()) and again.training
    with pytest.raises(ConfigError, match="cannot be trained as 'spans'"):
        rebuild("spans", tmp_path / "causal", tokenizer)


@pytest.mark.parametrize(
    ("net", "parameters"),
    [
        ({"family": "lstm", "num_hidden_layers": 2, "context": "state", "bidirectional": False}, 13_898_501),
        ({"family": "gru", "num_hidden_layers": 1, "context": "every_step", "bidirectional": False}, 14_219_781),
        ({"family": "gru", "num_hidden_layers": 1, "context": "additive", "bidirectional": True}, 20_518_405),
    ],
)
def test_published_nets_over_vocabularies_of_two_languages(multi30k_tokenizers, net, parameters):
    """The published sizes, counts and vocabularies: 7,853 of German, 5,893 of English."""
    source, target = multi30k_tokenizers
    config = NetConfig(hidden_size=512, embedding_size=256, **net)
    with torch.device("meta"):
        model = build("sequence", config, source, context_length=64, target=target)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.fixture(scope="module")
def multi30k_tokenizers(shared_data, tmp_path_factory):
    found = []
    for language, size in (("de", 7853), ("en", 5893)):
        with gzip.open(shared_data / "multi30k" / f"train.{language}.gz", "rt", encoding="utf-8") as lines:
            backend = learn(lines, TokenizerConfig(vocab_size=size))
        folder = tmp_path_factory.mktemp(language)
        write_tokenizer(backend, folder)
        found.append(Tokenizer.load(folder))
        assert found[-1].vocab_size == size
    return found
