"""Adapters by request: batches of several give what each gives alone, and nothing that one has read serves another."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import ConfigError, RequestError
from bloomery.engine import GenerationResult, LanguageModel, load
from bloomery.engine.engine import EngineConfig
from bloomery.engine.scheduler import SchedulerConfig

make_tiny_adapter = runpy.run_path(str(Path(__file__).parents[2] / "tiny_adapter.py"))["make_tiny_adapter"]
PROMPT = "Once upon a time there was a small furnace that smelted iron. Anyone could"
Make = Callable[..., LanguageModel]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        "red": make_tiny_adapter(root / "red", tiny_folder, seed=1),
        "blue": make_tiny_adapter(root / "blue", tiny_folder, seed=2, rank=7, targets=("k_proj", "v_proj", "up_proj")),
        "head": make_tiny_adapter(root / "head", tiny_folder, seed=3, rank=2, targets=("o_proj", "gate_proj")),
    }


@pytest.fixture
def make(tiny_folder: Path, folders: dict[str, Path]) -> Make:
    def made(weights: str | None = None, **config) -> LanguageModel:
        model = load(tiny_folder, device="cpu", weights=weights)
        assert isinstance(model, LanguageModel)
        model.set_engine(EngineConfig(**config))
        for name, folder in folders.items():
            model.load_adapter(folder, name=name)
        return model

    return made


ASKED: list[tuple[str | None, str]] = [
    ("red", PROMPT),
    (None, PROMPT),
    ("blue", PROMPT),
    ("red", "def smelt(ore"),
    ("head", PROMPT),
    ("blue", "a"),
]


def together(model: LanguageModel, **options) -> list[GenerationResult]:
    requests = []
    for name, prompt in ASKED:
        one = model if name is None else model.adapted(name)
        requests.append(one.request(one.encode_prompt(prompt), [{"max_new_tokens": 24, "temperature": 0.0, **options}]))
    results = {n: delta.result for n, delta in model.engine.run_all(requests) if delta.result is not None}
    return [results[n] for n in range(len(ASKED))]


def greedy(model: LanguageModel, name: str | None, prompt: str, steps: int = 24) -> list[int]:
    """Without an engine, cache or batch: a whole forward a token."""
    ids = model.encode_prompt(prompt)
    for step in range(steps):
        ids.append(int(model.logits(ids, adapter=name)[0, -1].argmax()))
        if ids[-1] in model.tokenizer.eos_ids:
            return ids[-step - 1 :]
    return ids[-steps:]


CONFIGS = {
    "plain": {},
    "no prefix cache": {"prefix_cache": False},
    "short parts": {"scheduler": SchedulerConfig(prefill_tokens=3, prefill_tokens_beside_others=2)},
    "short of memory": {"block_size": 4, "cache_tokens": 170},
    "guesses": {"drafts": "ngram"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_mixed_batch_writes_what_each_writes_alone(make: Make, name: str):
    model = make(**CONFIGS[name])
    expected = [greedy(model, *one) for one in ASKED]
    assert len({tuple(one) for one in expected}) == len(expected)  # the adapters do something
    for _ in range(2):  # the second time, prompts are known
        assert [one.token_ids for one in together(model)] == expected
    if name == "short of memory":
        assert model.engine.scheduler.preemptions > 0
    for (one, prompt), ids in zip(ASKED, expected, strict=True):
        assert model.generate(prompt, adapter=one, max_new_tokens=24, temperature=0.0).token_ids == ids


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int4"])
def test_packed_weights(make: Make, kind: str):
    model = make(weights=kind)
    # Sums in another order, after which an activation may round the other way: by a step of 10,000 and more for int8,
    # by 2^-8 for int4; keys and values in float16 by 2^-11.
    bound = {"int4": 6e-2, "int8": 1e-3, "float16": 1e-3}.get(kind, 1e-4)
    alone = [model.generate(p, adapter=name, max_new_tokens=24, temperature=0.0, logprobs=5) for name, p in ASKED]
    for one, other in zip(together(model, logprobs=0), alone, strict=True):
        pairs = zip(one.token_ids, other.token_ids, strict=True)
        same = next((n for n, (ours, theirs) in enumerate(pairs) if ours != theirs), len(other.token_ids))
        assert one.logprobs[:same] == pytest.approx(other.logprobs[:same], abs=bound)
        if same < len(other.token_ids):  # only where two were about as likely
            assert other.top_logprobs is not None
            likely = {top.token_id: top.logprob for top in other.top_logprobs[same]}
            assert likely[one.token_ids[same]] > other.logprobs[same] - 2 * bound


def test_prefixes_never_cross(make: Make):
    model = make(block_size=4)
    options = {"max_new_tokens": 1, "temperature": 0.0}
    for name in (None, "red", "blue"):  # each is the first of its kind
        assert model.generate(PROMPT, adapter=name, **options).timings.cached_tokens == 0
    for name in (None, "red", "blue"):
        assert model.generate(PROMPT, adapter=name, **options).timings.cached_tokens > 0


def test_another_adapter_of_the_same_name_finds_nothing(make: Make, folders: dict[str, Path]):
    model = make(block_size=4)
    first = model.generate(PROMPT, adapter="red", max_new_tokens=8, temperature=0.0)
    model.unload_adapter("red")
    model.load_adapter(folders["blue"], name="red")
    other = model.generate(PROMPT, adapter="red", max_new_tokens=8, temperature=0.0)
    assert other.timings.cached_tokens == 0 and other.token_ids == greedy(model, "blue", PROMPT, 8)
    model.unload_adapter("red")
    model.load_adapter(folders["red"], name="again")  # the same content: what was read still holds
    again = model.generate(PROMPT, adapter="again", max_new_tokens=8, temperature=0.0)
    assert again.timings.cached_tokens > 0 and again.token_ids == first.token_ids


def test_beams_and_samples(make: Make):
    model, merged = make(), make()
    merged.merge_adapter("blue")
    one = model.beam_search(PROMPT, beams=3, max_new_tokens=6, adapter="blue")
    other = merged.beam_search(PROMPT, beams=3, max_new_tokens=6)
    assert [beam.token_ids for beam in one] == [beam.token_ids for beam in other]
    options = {"max_new_tokens": 6, "seed": 7}
    drawn = [r.token_ids for r in model.samples(PROMPT, 3, adapter="blue", **options)]
    assert drawn == [r.token_ids for r in merged.samples(PROMPT, 3, **options)]


def test_prompt_scores_are_the_adapters(make: Make):
    model = make()
    result = model.generate(PROMPT, adapter="red", max_new_tokens=0, prompt_logprobs=0)
    ids = model.encode_prompt(PROMPT)
    expected = model.logits(ids, adapter="red")[0].log_softmax(-1)
    assert result.prompt_logprobs is not None
    got = [one.logprob for one in result.prompt_logprobs if one is not None]
    assert got == pytest.approx([float(expected[n, i]) for n, i in enumerate(ids[1:])], abs=1e-4)


def test_merged_and_unmerged(make: Make):
    model = make()
    before = {name: one.clone() for name, one in model.decoder.named_parameters()}
    plain, expected = model.generate(PROMPT, max_new_tokens=8, temperature=0.0), greedy(model, "red", PROMPT, 8)
    model.merge_adapter("red")
    assert model.generate(PROMPT, max_new_tokens=8, temperature=0.0).token_ids == expected
    with pytest.raises(RequestError, match="red is merged"):
        model.generate(PROMPT, adapter="blue")
    with pytest.raises(ConfigError, match="merged already"):
        model.merge_adapter("blue")
    with pytest.raises(ConfigError, match="merged into"):
        model.unload_adapter("red")
    model.unmerge_adapter()
    assert all(torch.equal(before[name], one) for name, one in model.decoder.named_parameters())
    assert model.generate(PROMPT, max_new_tokens=8, temperature=0.0).token_ids == plain.token_ids


def test_unloaded_while_it_is_used(make: Make):
    model = make()
    expected = greedy(model, "red", PROMPT)
    deltas = model.stream(PROMPT, adapter="red", max_new_tokens=24, temperature=0.0)
    ids = list(next(deltas).token_ids)
    model.unload_adapter("red")
    with pytest.raises(RequestError, match="no adapter 'red'"):
        model.generate(PROMPT, adapter="red")
    model.generate("a", adapter="blue", max_new_tokens=4)
    assert ids + [i for delta in deltas for i in delta.token_ids] == expected


def test_loaded_while_others_run(make: Make, folders: dict[str, Path]):
    model = make()
    expected, errors = greedy(model, None, PROMPT), []

    def ask() -> None:
        found = [model.generate(PROMPT, max_new_tokens=24, temperature=0.0).token_ids for _ in range(6)]
        errors.extend(ids for ids in found if ids != expected)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for one in threads:
        one.start()
    for number in range(6):
        model.load_adapter(folders["red"], name=f"more {number}")
        model.unload_adapter(f"more {number}")
    for one in threads:
        one.join()
    assert not errors


def test_mistakes(make: Make, folders: dict[str, Path]):
    model = make()
    assert list(model.adapters) == ["red", "blue", "head"]
    assert model.adapters["blue"].to_dict() | {"bytes": 0} == {"name": "blue", "rank": 7, "layers": 6, "bytes": 0}
    with pytest.raises(ConfigError, match="already"):
        model.load_adapter(folders["red"], name="blue")
    with pytest.raises(RequestError) as caught:
        model.generate("a", adapter="rad")
    assert "red" in caught.value.hint
    with pytest.raises(ConfigError, match="no adapter is merged"):
        model.unmerge_adapter()
    packed = make(weights="float16")
    with pytest.raises(ConfigError, match="packed weights"):
        packed.merge_adapter("red")
    running = model.stream(PROMPT, max_new_tokens=24, ignore_eos=True)  # else it may end with its first token
    next(running)
    with pytest.raises(ConfigError, match="requests are running"):
        model.merge_adapter("red")


def test_what_was_asked_for_before_a_merge_is_not_adapted_twice(make: Make):
    model = make()
    stream = model.stream(PROMPT, adapter="red", max_new_tokens=4, temperature=0.0)
    model.merge_adapter("red")
    with pytest.raises(RequestError, match="merged"):
        list(stream)
    model.unmerge_adapter()
    assert model.generate(PROMPT, adapter="red", max_new_tokens=4, temperature=0.0).token_ids == greedy(
        model, "red", PROMPT, 4
    )


@pytest.mark.parametrize("config", [{"native": "off"}, {"static_steps": "plain"}, {}])
def test_a_text_without_an_adapter_has_the_same_bits_beside_one_that_has(make: Make, config: dict[str, str]):
    model = make(cache_tokens=512, prefix_cache=False, **config)
    (alone,) = [model.generate(PROMPT, max_new_tokens=24, temperature=0.0, logprobs=0)]
    beside = together(model, logprobs=0)[1]
    assert beside.token_ids == alone.token_ids
    if model.engine.stats().native_steps or config.get("static_steps"):
        assert beside.logprobs == alone.logprobs
