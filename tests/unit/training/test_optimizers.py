"""Which parameter goes where, and state that survives a round trip by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Decoder, ModelConfig
from bloomery.training.causal import causal_loss
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.parts import PartsConfig


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(10, 8)
        self.q_proj = nn.Linear(8, 8, bias=True)
        self.norm = nn.RMSNorm(8)
        self.lm_head = nn.Linear(8, 10, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.norm(self.q_proj(self.embed_tokens(ids))))


def _train(net: Net, optimizers: Optimizers, steps: range) -> None:
    for step in steps:
        ids = torch.arange(6) + step % 4
        nn.functional.cross_entropy(net(ids), ids.flip(0)).backward()
        optimizers.step(0.5)


def _net() -> Net:
    torch.manual_seed(0)
    return Net()


def test_only_hidden_matrices_go_to_muon():
    net = _net()
    optimizers = Optimizers(net, OptimizerConfig())
    muon = {id(p) for g in optimizers.parts["muon"].param_groups for p in g["params"]}
    assert muon == {id(net.q_proj.weight)}
    adam = {id(p) for g in optimizers.parts["adamw"].param_groups for p in g["params"]}
    assert adam == {id(p) for p in net.parameters()} - muon


def test_without_muon_everything_goes_to_adamw_and_matrices_alone_decay():
    net = _net()
    optimizers = Optimizers(net, OptimizerConfig(adam_weight_decay=0.1), muon=False)
    assert set(optimizers.parts) == {"adamw"}
    decayed = {id(p) for g in optimizers.parts["adamw"].param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(net.q_proj.weight), id(net.lm_head.weight)}


def test_what_is_frozen_is_left_alone():
    net = _net()
    net.requires_grad_(False)
    net.norm.requires_grad_(True)
    optimizers = Optimizers(net, OptimizerConfig())
    before = net.q_proj.weight.clone()
    _train(net, optimizers, range(2))
    assert list(optimizers.named) == ["norm.weight"] and torch.equal(net.q_proj.weight, before)
    assert all(key.startswith("adamw.norm.weight") for key in optimizers.state_tensors())
    with pytest.raises(ConfigError, match="every parameter of the model is frozen"):
        Optimizers(net.requires_grad_(False), OptimizerConfig())


def test_rates_follow_the_multiplier():
    config = OptimizerConfig(matrix_lr=0.2, embedding_lr=0.3, head_lr=0.1, scalar_lr=0.05)
    net = _net()
    optimizers = Optimizers(net, config)
    _train(net, optimizers, range(1))
    rates = sorted(g["lr"] for o in optimizers.parts.values() for g in o.param_groups)
    assert rates == pytest.approx([0.025, 0.05, 0.1, 0.15])


def test_state_round_trip_is_exact():
    straight, first = _net(), _net()
    _train(straight, Optimizers(straight, OptimizerConfig()), range(7))
    before = Optimizers(first, OptimizerConfig())
    _train(first, before, range(4))
    second = _net()
    second.load_state_dict(first.state_dict())
    after = Optimizers(second, OptimizerConfig())
    after.load_state_tensors({k: v.clone() for k, v in before.state_tensors().items()})
    _train(second, after, range(4, 7))
    for name, parameter in straight.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name


def test_foreign_state_is_refused():
    with pytest.raises(DataError, match="does not have"):
        Optimizers(_net(), OptimizerConfig()).load_state_tensors({"adamw.nothing.exp_avg": torch.zeros(1)})


def test_loss_falls():
    net = _net()
    ids = torch.arange(6)
    before = nn.functional.cross_entropy(net(ids), ids.flip(0)).item()
    _train(net, Optimizers(net, OptimizerConfig()), range(0, 800, 4))
    assert nn.functional.cross_entropy(net(ids), ids.flip(0)).item() < 0.5 * before


def _own(**settings) -> tuple[Decoder, Optimizers]:
    config = ModelConfig(
        model_type="bloomery",
        vocab_size=20,
        hidden_size=16,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=8,
        value_embedding_layers=(1,),
        bigram_vocab_size=40,
        **PartsConfig(resid_lambdas=True, x0_lambdas=True, smear=True, logit_softcap=15.0).options(),
    )
    torch.manual_seed(0)
    model = Decoder(config)
    return model, Optimizers(model, OptimizerConfig(**settings))


def test_tables_and_lambdas_of_our_own_have_their_rates():
    rates = {"bigram_lr": 0.3, "value_embedding_lr": 0.4, "lambda_lr": 0.5, "embedding_lr": 0.1, "scalar_lr": 0.2}
    _, optimizers = _own(**rates, bigram_rows=True)
    names = {id(p): name for name, p in optimizers.named.items()}
    found = {
        names[id(p)]: (label, group["lr"])
        for label, part in optimizers.parts.items()
        for group in part.param_groups
        for p in group["params"]
    }
    assert found["model.embed_tokens.weight"] == ("adamw", 0.1)
    assert found["model.embed_bigrams.table.weight"] == ("rows", 0.3)
    assert found["model.embed_values.1.weight"] == ("adamw", 0.4)
    assert found["model.mix.x0"] == found["model.mix.resid"] == ("adamw", 0.5)
    assert found["model.smear.gate"] == found["model.smear.scale"] == found["model.norm.weight"] == ("adamw", 0.2)
    assert found["model.layers.1.self_attn.v_gate.weight"][0] == "muon"


def test_state_of_every_refinement_goes_on_exactly():
    settings = {
        "bigram_rows": True,
        "matrix_polynomial": "polar_express",
        "matrix_cautious_decay": True,
        "matrix_second_beta": 0.9,
        "matrix_momentum_warmup_steps": 3,
        "matrix_whole_every": 2,
    }

    def train(model: Decoder, optimizers: Optimizers, steps: range) -> None:
        for step in steps:
            ids = (torch.arange(16).view(2, 8) * (step + 1)) % 20
            causal_loss(model.hidden_states, model.output_weight, ids, ids.flip(0), softcap=15.0).backward()
            optimizers.step(0.5)

    straight, first = _own(**settings), _own(**settings)
    train(*straight, range(5))
    train(*first, range(3))
    kept = {name: value.clone() for name, value in first[1].state_tensors().items()}
    assert any(name.startswith("rows.") for name in kept) and any(name.endswith(".second_moment") for name in kept)
    second = _own(**settings)
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_tensors(kept)
    train(*second, range(3, 5))
    for ours, theirs in zip(straight[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("wrong", [{"matrix_polynomial": "x"}, {"matrix_iterations": 9}, {"matrix_second_beta": 1.0}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ConfigError):
        OptimizerConfig(**wrong)
