"""Likelihoods in process: the log-probabilities of transformers' logits, to the end of the context and beyond."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.core.likelihood import Pair
from bloomery.engine import LanguageModel, load
from bloomery.engine.likelihoods import EngineLikelihoods

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]
LONG = "Once upon a time there was a small furnace. " * 40
PAIRS = [
    Pair("Once upon a time there was a small", " furnace that"),
    Pair("Once upon a time there was a small", " oven"),
    Pair("", "def smelt(ore):"),
    Pair("Ends with a space ", "so"),
    Pair(LONG, " smelted iron"),
    Pair("Ein Ofen, klein und heiß", ": über 🔥"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    found = load(folder, device="cpu")
    assert isinstance(found, LanguageModel)
    return found


@pytest.fixture(scope="module")
def reference(folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


def scored(reference, ids: list[int], count: int) -> tuple[float, bool]:
    """The last `count` ids after those before them; the last one is not read."""
    with torch.inference_mode():
        rows = reference[0](torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)[-count:]
    targets = torch.tensor(ids[-count:])
    nats = rows.gather(1, targets[:, None]).sum().item()
    return nats, bool((rows.argmax(-1) == targets).all())


def test_pairs_are_scored_as_transformers_scores_them(model: LanguageModel, reference):
    tokenizer, length = reference[1], model.context_length
    found = dict(EngineLikelihoods(model).likelihoods(PAIRS))
    for place, (context, continuation) in enumerate(PAIRS):
        bare = context.rstrip()
        whole = tokenizer.encode(context + continuation)
        before = tokenizer.encode(bare) if bare else [tokenizer.bos_token_id]
        nats, greedy = scored(reference, whole[-(length + 1) :], len(whole) - len(before))
        assert found[place].nats == pytest.approx(nats, abs=1e-4)  # sums of float32
        assert found[place].tokens == len(whole) - len(before) and found[place].greedy == greedy
        assert found[place].usage.prompt_tokens == min(len(whole), length)


def test_a_greedy_continuation_is_said_to_be_one(model: LanguageModel):
    likelihoods = EngineLikelihoods(model)
    for context in ("Once upon", "def smelt("):
        made = model.generate(context, max_new_tokens=6, temperature=0.0)
        ids = model.encode_prompt(context) + list(made.token_ids)
        if model.tokenizer.encode(context + made.text, add_bos=True) != ids:
            continue  # the text is cut otherwise
        ((_, found),) = likelihoods.likelihoods([Pair(context, made.text)])
        assert found.greedy and found.nats == pytest.approx(sum(made.logprobs), abs=1e-4)


def test_whole_texts_are_read_in_windows(model: LanguageModel, reference):
    from bloomery.core.likelihood import windows

    tokenizer = reference[1]
    for text in ("Once upon a time", LONG):
        ids = tokenizer.encode(text, add_special_tokens=False)
        cut = list(windows(ids, tokenizer.bos_token_id, model.context_length))
        ((_, found),) = EngineLikelihoods(model).rolling([text])
        assert found.nats == pytest.approx(sum(scored(reference, *one)[0] for one in cut), rel=1e-6)
        assert found.tokens == len(ids)
    assert next(EngineLikelihoods(model).rolling([""]))[1].nats == 0.0


def test_without_bos(model: LanguageModel, reference):
    ids = reference[1].encode("".join(PAIRS[0]), add_special_tokens=False)
    count = len(ids) - len(reference[1].encode(PAIRS[0].context, add_special_tokens=False))
    ((_, found),) = EngineLikelihoods(model, bos=False).likelihoods(PAIRS[:1])
    assert found.nats == pytest.approx(scored(reference, ids, count)[0], abs=1e-4)


def test_batches_are_the_same_but_for_rounding(model: LanguageModel):
    single, together = EngineLikelihoods(model), EngineLikelihoods(model, batches=True)
    pairs = [
        *PAIRS,
        *(Pair("The answer is", f" {letter}") for letter in "ABCD"),
        *(Pair("x " * n, "y") for n in range(60)),
    ]
    one, other = dict(single.likelihoods(pairs)), dict(together.likelihoods(pairs))
    for place in range(len(pairs)):
        assert other[place].nats == pytest.approx(one[place].nats, abs=1e-4)
        assert (other[place].tokens, other[place].greedy) == (one[place].tokens, one[place].greedy)
        assert other[place].usage.energy_joules.known == one[place].usage.energy_joules.known
    texts = ["Once upon a time", LONG, ""]
    for (_, a), (_, b) in zip(single.rolling(texts), together.rolling(texts), strict=True):
        assert b.nats == pytest.approx(a.nats, rel=1e-6) and a.tokens == b.tokens


def test_an_empty_continuation_is_refused(model: LanguageModel):
    with pytest.raises(RequestError):
        list(EngineLikelihoods(model).likelihoods([Pair("a", "")]))


def test_what_begins_alike_is_read_once_and_scored_the_same_to_the_last_bit(model: LanguageModel):
    context = "Once upon a time there was a small furnace that smelted iron. " * 8
    pairs = [Pair(context[:700], end) for end in (" ore", " charcoal and ore", " iron", " a", " b")]
    alone = [next(EngineLikelihoods(model).likelihoods([pair]))[1].nats for pair in pairs]
    before = model.engine.stats().prefix_hits
    together = dict(EngineLikelihoods(model).likelihoods(pairs))
    assert [together[place].nats for place in range(len(pairs))] == alone
    assert model.engine.stats().prefix_hits - before >= 128 * (len(pairs) - 1)
