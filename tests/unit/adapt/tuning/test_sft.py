"""The loss of supervised fine-tuning against TRL's, packed and not; and rows that see only themselves."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.adapt.tuning.lora import add_lora
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.adapt.tuning.sft import SftObjective, batch_of, sft_loss
from bloomery.adapt.tuning.sft_tokens import Row, TokenizedExample, packed
from bloomery.models import Decoder, load_pretrained, packed_texts
from bloomery.models.attention import use_backend
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.assistant import learnt_tokens
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import accumulate

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
TALKS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "What is iron?"}, {"role": "assistant", "content": "A metal that rusts."}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "And a furnace?"},
        {"role": "assistant", "content": "It heats."},
        {"role": "user", "content": "Anything?"},
        {"role": "assistant", "content": "Ore and charcoal, over night."},
    ],
    [{"role": "user", "content": "Öfen"}, {"role": "assistant", "content": "火"}],
]
MARKED = """\
{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}\
<|im_end|>{% endif %}
{% endfor %}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    Tokenizer.load(made).with_chat_template(MARKED).save(made)
    return made


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Decoder:
    return load_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def examples(folder: Path) -> list[TokenizedExample]:
    tokenizer = Tokenizer.load(folder)
    made = [learnt_tokens(tokenizer, talk) for talk in TALKS]
    return [TokenizedExample(tuple(one.ids), tuple(one.learnt)) for one in made]


def _loss(decoder: Decoder, rows: list[Row]) -> torch.Tensor:
    return sft_loss(decoder, **{name: torch.from_numpy(array) for name, array in batch_of(rows).items()})


def _trainer(folder: Path, out: Path, model: Any, **options: Any) -> Any:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(out), use_cpu=True, report_to=[], per_device_train_batch_size=3, bf16=False, max_length=256,
        dataset_num_proc=None, gradient_checkpointing=False, **options,
    )  # fmt: skip
    return SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list([{"messages": talk} for talk in TALKS]),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lora", [False, True])
def test_trl_says_the_same(folder: Path, tmp_path: Path, examples: list[TokenizedExample], lora: bool):
    """assistant_only_loss on the same batch, with and without an adapter: loss to 1e-5, and gradients."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    decoder = load_pretrained(folder, dtype=torch.float32).requires_grad_(True)
    trainer = _trainer(folder, tmp_path, model, assistant_only_loss=True)
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model.eval(), batch)
    if lora:
        torch.manual_seed(0)
        add_lora(decoder, LoraConfig(r=2))
    ours = _loss(decoder, [Row((one,)) for one in examples]) / sum(one.num_learnt for one in examples)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)
    if not lora:
        theirs.backward()
        ours.backward()
        name = "model.layers.0.self_attn.q_proj.weight"
        expected = dict(trainer.model.named_parameters())[name].grad
        torch.testing.assert_close(dict(decoder.named_parameters())[name].grad, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_completions_are_trl_s(folder: Path, tmp_path: Path, decoder: Decoder):
    """completion_only_loss of prompts and completions."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from bloomery.adapt.tuning.instruct_data import Example
    from bloomery.adapt.tuning.sft_tokens import Encoder

    pairs = [("Iron is\n", "a metal."), ("A furnace\n", "heats ore over night."), ("Öfen\n", "glühen")]
    config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to=[], per_device_train_batch_size=3, bf16=False)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": one, "completion": two} for one, two in pairs]),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    theirs = trainer.compute_loss(trainer.model.eval(), next(iter(trainer.get_train_dataloader())))
    encoder = Encoder(Tokenizer.load(folder), 256)
    made = encoder([Example(where="here", prompt=one, answer=two) for one, two in pairs])
    ours = _loss(decoder, [Row((one,)) for one in made]) / sum(one.num_learnt for one in made)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)


@pytest.mark.parametrize("way", ["sdpa", "sdpa_together"])
def test_packed_is_unpacked(folder: Path, examples: list[TokenizedExample], way: str):
    """Any order and packing of examples gives the sum of each alone, texts computed apart as on a CPU or side by side
    as on a GPU."""
    decoder = load_pretrained(folder, dtype=torch.float32)
    use_backend(decoder, way)
    alone = [_loss(decoder, [Row((one,))]).detach() for one in examples]
    assert len({round(float(one), 3) for one in alone}) == 3
    for order in itertools.permutations(examples):
        torch.testing.assert_close(_loss(decoder, [Row(tuple(order))]).detach(), sum(alone), atol=1e-4, rtol=1e-5)
    rows = packed(examples * 3, 128)
    assert len(rows) < 9 and all(row.length <= 128 for row in rows)
    assert sorted(one.ids for row in rows for one in row.examples) == sorted(one.ids for one in examples * 3)
    torch.testing.assert_close(_loss(decoder, rows).detach(), 3 * sum(alone), atol=1e-4, rtol=1e-5)


def test_texts_side_by_side_learn_as_texts_apart(
    folder: Path, examples: list[TokenizedExample], monkeypatch: pytest.MonkeyPatch
):
    """A GPU's way of attention, on the CPU: the loss and every gradient of an adapter, in one group and in several."""
    rows = packed(examples * 3, 128)
    found = []
    for way, worth in (("sdpa_apart", 4096), ("sdpa_together", 4096), ("sdpa_together", 1)):
        monkeypatch.setattr(packed_texts, "_WORTH_A_CALL", worth)
        decoder = load_pretrained(folder, dtype=torch.float32)
        torch.manual_seed(0)
        parameters = add_lora(decoder, LoraConfig(r=2))
        for parameter in parameters:
            torch.nn.init.normal_(parameter, std=0.1)
        use_backend(decoder, way)
        loss = _loss(decoder, rows)
        loss.backward()
        found.append((loss.detach(), [one.grad for one in parameters]))
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(gradients, found[0][1], atol=1e-4, rtol=1e-4)


def test_nothing_is_seen_of_another(decoder: Decoder, examples: list[TokenizedExample]):
    """What stands before an example in its row may be anything."""
    other = TokenizedExample(tuple(range(5, 40)), (False,) * 35)
    torch.testing.assert_close(
        _loss(decoder, [Row((other, examples[1], other))]), _loss(decoder, [Row((examples[1],))]), atol=1e-5, rtol=1e-6
    )


def test_an_adapter_of_the_head(folder: Path, examples: list[TokenizedExample]):
    """The loss that goes through logits is the one that goes without them, as long as the adapter adds nothing."""
    decoder = load_pretrained(folder, dtype=torch.float32)
    rows = [Row((one,)) for one in examples]
    plain = _loss(decoder, rows).detach()
    parameters = add_lora(decoder, LoraConfig(r=2, target_modules=("lm_head",)))
    loss = _loss(decoder, rows)
    torch.testing.assert_close(loss.detach(), plain, atol=1e-4, rtol=1e-6)
    loss.backward()
    assert any(bool(p.grad.any()) for p in parameters if p.grad is not None)


@pytest.mark.parametrize("recomputes", [False, True])
def test_objective(folder: Path, examples: list[TokenizedExample], recomputes: bool):
    """Micro-batches and recomputed layers give the batch's gradient; validation is nats per learnt token."""
    decoder = load_pretrained(folder, dtype=torch.float32).requires_grad_(True)
    decoder.recomputes = recomputes
    rows = [Row((one,)) for one in examples]
    objective = SftObjective(decoder, ExampleLoader(rows, rows, rows=3, seed=0))
    batch = objective.next_batch(3)
    assert batch.items == sum(row.length for row in rows)
    device, gradients = torch.device("cpu"), []
    for micro in (3, 1):
        decoder.zero_grad()
        loss = accumulate(objective, batch, micro, device, "float32")
        gradients.append(decoder.model.layers[0].self_attn.q_proj.weight.grad.clone())  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)
    assert objective.validate(None, device, "float32").value == pytest.approx(float(loss), abs=1e-5)
    assert objective.headline == "nats_per_token"
