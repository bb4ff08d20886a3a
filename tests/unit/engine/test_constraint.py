"""Constraints: texts are those that were asked for, masks are exact, the model's distribution is kept within them."""

from __future__ import annotations

import ast
import json
import re
import threading
from typing import Any

import jsonschema
import numpy as np
import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from bloomery.core.errors import RequestError
from bloomery.engine import LanguageModel
from bloomery.engine.constraint import Constraint, constraint_for
from bloomery.engine.params import SamplingParams
from bloomery.engine.sampling import Sampler
from bloomery.tokenizer import StreamDecoder, Tokenizer

WORD = {"type": "string", "maxLength": 6}
SMALL = {"type": "integer", "minimum": -20, "maximum": 300}


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def listed(items: Any, low: int = 0, high: int = 3) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": low, "maxItems": high}


SCHEMAS: list[Any] = [
    WORD,
    SMALL,
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["boolean", "null"]},
    {"enum": ["a", 1, None, [1], {"b": 2}]},
    {"const": {"a": [1, "é"]}},
    {"type": "string", "minLength": 3, "maxLength": 5},
    {"type": "string", "pattern": "^[a-c]{2,4}$"},
    {"type": "string", "pattern": "b", "maxLength": 4},
    {"type": "string", "enum": ["x\n", '"', "\\", "😀", "\u0001"]},
    {"type": "number", "minimum": 0.5, "maximum": 2.25},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 9},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 999},
    {"type": "integer", "minimum": 5, "maximum": 5},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "time"},
    {"type": "string", "format": "date-time"},
    listed(SMALL),
    listed(WORD, 2, 2),
    listed(listed({"type": "boolean"})),
    listed({"enum": [1, 2]}, 1, 1),
    {"type": "array", "prefixItems": [SMALL, WORD], "items": False, "minItems": 2},
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [SMALL, WORD],
        "additionalItems": False,
        "minItems": 1,
    },
    thing(),
    thing(a=WORD),
    thing(a=WORD, b=SMALL, c=listed(WORD)),
    thing(a=thing(b=thing(c={"type": "boolean"}))),
    {"type": "object", "properties": {"a": SMALL, "b": WORD}, "required": ["b"], "additionalProperties": False},
    {"type": "object", "properties": {"a": SMALL, "b": SMALL, "c": SMALL}, "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2},
    {"type": "object", "patternProperties": {"^x[0-9]$": SMALL}, "additionalProperties": False, "maxProperties": 2},
    {"anyOf": [SMALL, WORD, thing(a=SMALL)]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]},
    {"oneOf": [thing(kind={"const": "a"}, x=SMALL), thing(kind={"const": "b"}, y=WORD)]},
    {"oneOf": [{"type": "null"}, WORD]},
    {"$defs": {"n": SMALL}, **thing(a={"$ref": "#/$defs/n"}, b={"$ref": "#/$defs/n"})},
    {"$ref": "#/definitions/n", "definitions": {"n": listed(SMALL)}},
    {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/tree"}, "v": SMALL},
                "required": ["v"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/tree",
    },
    {
        "title": "Person",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "strict": True,
        **thing(name=WORD, age=SMALL, mail={"type": ["string", "null"], "maxLength": 3}),
    },
    thing(**{"$ref": SMALL}),
    thing(**{'a b"\\': SMALL, "é": WORD}),
    {"type": "array", "items": {}, "maxItems": 0},
]
REGEXES = [
    r"[a-z]{1,8}",
    r"yes|no|may ?be",
    r"\d{1,3}(\.\d{1,3}){3}",
    r"(ab|a)b?",
    r"[^\n]{0,10}!",
    r"\p{L}{2}|é+x",
    r"(?i)hello",
    r"a{0}",
    r"x?y?z?",
    r'"[^"\\]{0,9}"',
    r"[\u4e00-\u9fff]{1,3}",
    r"(?:[01]{2}-){2}[01]",
    r"\s{1,3}\S",
    r"😀{1,2}",
    r"/[/]\/",
    r"\w+@\w+\.(com|org)",
]


@pytest.fixture(scope="session")
def llama_like(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Llama 2's form: pieces with "▁" for a space, a token for each byte, and a space that decoding drops."""
    letters = [chr(code) for code in range(33, 127)] + ["▁"]
    merges = [
        ("▁", "t"),
        ("▁t", "h"),
        ("▁th", "e"),
        ("▁", "i"),
        ("f", "u"),
        ("fu", "r"),
        ("▁", "{"),
        ("▁", "▁"),
        ("{", '"'),
    ]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *letters, *("".join(m) for m in merges)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    described = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": text, **flags} for i, text in enumerate(names[:3])],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {text: i for i, text in enumerate(names)},
            "merges": [list(m) for m in merges],
        },
    }
    folder = tmp_path_factory.mktemp("llama_like")
    (folder / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return Tokenizer.load(folder)


def wander(constraint: Constraint, tokenizer: Tokenizer, seed: int, *, steps: int = 1_500, continues: bool = False):
    """(text, whether it ended) of a random walk among the allowed tokens, the shorter way now and then."""
    draw = np.random.default_rng(seed)
    characters, text = StreamDecoder(tokenizer, continues=continues), ""
    for _ in range(steps):
        ids = constraint.allowed().nonzero().flatten().numpy()
        ends = [i for i in ids if i in tokenizer.eos_ids]
        if ends and draw.random() < 0.5:
            constraint.advance(int(ends[0]))
            assert constraint.finished
            return text + characters.finish(), True
        token = int(draw.choice(ids))
        if token in tokenizer.eos_ids:
            return text + characters.finish(), True
        constraint.advance(token)
        text += characters.push(token)
        constraint.start()
        if constraint.finished:
            return text + characters.finish(), True
    return text, False


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:60])
def test_json_is_what_the_schema_says(tiny: LanguageModel, schema: Any):
    bare = {key: value for key, value in schema.items() if key != "strict"}
    validator = jsonschema.validators.validator_for(bare, jsonschema.Draft202012Validator)(
        bare, format_checker=jsonschema.FormatChecker(["uuid", "ipv4", "email"])
    )
    ended = 0
    for seed in range(6):
        text, done = wander(constraint_for({"json_schema": schema}, tiny.tokenizer), tiny.tokenizer, seed)
        if done:
            validator.validate(json.loads(text))
            ended += 1
    assert ended >= 4  # a walk may stay in a list or a number for long


@pytest.mark.parametrize("schema", SCHEMAS[::4], ids=lambda s: json.dumps(s)[:60])
def test_a_random_model_writes_valid_json(tiny: LanguageModel, schema: Any):
    bare = {key: value for key, value in schema.items() if key != "strict"}
    for seed in range(3):
        result = tiny.generate(
            "Once", constraint={"json_schema": schema}, max_new_tokens=220, seed=seed, temperature=1.5
        )
        if result.finish_reason == "stop":
            jsonschema.validate(json.loads(result.text), bare)
        else:
            assert result.finish_reason == "length" and len(result.token_ids) == 220


@pytest.mark.parametrize("pattern", REGEXES)
def test_regular_expressions(tiny: LanguageModel, pattern: str):
    for seed in range(8):
        text, done = wander(constraint_for({"regex": pattern}, tiny.tokenizer), tiny.tokenizer, seed, steps=300)
        if done:
            assert regex.fullmatch(pattern, text), text
            if not re.search(r"\\[pdw]", pattern):  # Python's own tables of Unicode are older
                assert re.fullmatch(pattern, text), text
        else:
            assert regex.fullmatch(pattern, text, partial=True), text


def test_choices(tiny: LanguageModel):
    choices = ["yes", "no", "not now", 'né\n"\\', "火", " spaced ", "<|im_end|>", "a/b"]
    seen = {tiny.generate("x", constraint={"choice": choices}, seed=s, temperature=3.0).text for s in range(60)}
    assert seen <= set(choices) and len(seen) >= 4
    for seed in range(60):
        text, done = wander(constraint_for({"choice": choices}, tiny.tokenizer), tiny.tokenizer, seed)
        assert done and text in choices


def test_a_grammar(tiny: LanguageModel):
    lark = 'start: expr\nexpr: term ("+" term)*\nterm: NUMBER | "(" expr ")"\nNUMBER: /[0-9]{1,3}/'
    for seed in range(10):
        text, done = wander(constraint_for({"grammar": lark}, tiny.tokenizer), tiny.tokenizer, seed, steps=200)
        if done:
            assert re.fullmatch(r"[0-9+()]+", text)
            ast.parse(re.sub(r"\b0+(?=\d)", "", text), mode="eval")


@pytest.mark.parametrize("pattern", ["ab+c|b", "(the |a )?furnace", "[ -~]{2,6}", "x"])
def test_masks_are_exact(tiny: LanguageModel, pattern: str):
    """A token is allowed if and only if the text can still become a match; the `regex` library says so for each."""
    tokenizer = tiny.tokenizer
    constraint, text = constraint_for({"regex": pattern}, tokenizer), ""
    draw = np.random.default_rng(0)
    for _ in range(6):
        mask = constraint.allowed()
        for token in range(tokenizer.vocab_size):
            data = tokenizer.token_bytes(token)
            if token in tokenizer.eos_ids:
                expected = regex.fullmatch(pattern, text) is not None
            elif token in tokenizer.special_ids or not data or not data.isascii():
                expected = False  # nothing but ASCII matches these
            else:
                expected = regex.fullmatch(pattern, text + data.decode(), partial=True) is not None
            assert bool(mask[token]) == expected, (text, data)
        ids = [i for i in mask.nonzero().flatten().tolist() if i not in tokenizer.special_ids]
        if not ids:
            break
        token = int(draw.choice(ids))
        constraint.advance(token)
        text += tokenizer.token_bytes(token).decode()


def test_the_distribution_is_the_models_own_renormalised(tiny: LanguageModel):
    logits = torch.randn(tiny.tokenizer.vocab_size, generator=torch.Generator().manual_seed(3)) * 2
    start = constraint_for({"regex": "(b|be|[c-h].*|the|i)x*"}, tiny.tokenizer)
    mask = start.allowed()
    exact = torch.softmax(logits.double(), 0) * mask
    exact = exact / exact.sum()
    sampler = Sampler(SamplingParams(seed=7), constraint=start)
    counts = torch.zeros(len(logits))
    for _ in range(5_000):
        sampler._constraint = start.fork()
        counts[sampler.choose(logits)] += 1
    assert counts[~mask].sum() == 0 and mask.sum() > 5
    likely = mask & (exact * 5_000 >= 5)
    rare_seen, rare_due = counts[mask & ~likely].sum(), exact[mask & ~likely].sum() * 5_000
    seen, due = [*counts[likely].tolist(), float(rare_seen)], [*(exact[likely] * 5_000).tolist(), float(rare_due)]
    assert chisquare([s for s, d in zip(seen, due, strict=True) if d], [d for d in due if d]).pvalue > 1e-3


def test_a_text_that_satisfies_anyway_is_unchanged_and_so_are_its_log_probabilities(tiny: LanguageModel):
    for seed in range(5):
        free = tiny.generate("Once upon", max_new_tokens=40, temperature=0.7, seed=seed, top_p=0.9)
        if "\ufffd" in free.text:
            continue
        bound = {"regex": re.escape(free.text) + r"(.|\n)*"}
        kept = tiny.generate("Once upon", max_new_tokens=40, temperature=0.7, seed=seed, top_p=0.9, constraint=bound)
        assert kept.text == free.text
    greedy = tiny.generate("Once upon", max_new_tokens=30, temperature=0)
    same = tiny.generate("Once upon", max_new_tokens=30, temperature=0, constraint={"regex": r"(.|\n)*"})
    if "\ufffd" not in greedy.text:
        assert same.token_ids == greedy.token_ids and same.logprobs == greedy.logprobs
    forced = tiny.generate("Once upon", max_new_tokens=3, temperature=0, constraint={"regex": "zzz.*"}, logprobs=1)
    row = torch.log_softmax(tiny.logits(tiny.encode_prompt("Once upon"))[0, -1], -1)
    assert forced.logprobs[0] == pytest.approx(float(row[forced.token_ids[0]]), abs=1e-4)


def test_seeds_and_finish_reasons(tiny: LanguageModel):
    options: dict[str, Any] = {
        "constraint": {"json_schema": thing(a=WORD, b=listed(SMALL))},
        "seed": 4,
        "max_new_tokens": 250,
    }
    assert tiny.generate("x", **options).token_ids == tiny.generate("x", **options).token_ids
    short = tiny.generate("x", constraint={"regex": "[a-z]{50}"}, max_new_tokens=4)
    assert short.finish_reason == "length" and len(short.token_ids) == 4
    done = tiny.generate("x", constraint={"choice": ["furnace"]}, max_new_tokens=50)
    assert done.text == "furnace" and done.finish_reason == "stop" and done.token_ids[-1] not in tiny.tokenizer.eos_ids
    stopped = tiny.generate("x", constraint={"choice": ["furnace"]}, stop="na", max_new_tokens=50)
    assert stopped.text == "fur" and stopped.finish_reason == "stop"
    with pytest.raises(RequestError, match="ignore_eos"):
        tiny.generate("x", constraint={"choice": ["a"]}, ignore_eos=True)


def test_a_padded_vocabulary(tiny: LanguageModel):
    """Logits may be longer than the tokenizer's vocabulary, or shorter, as in models with rows for speed."""
    constraint = constraint_for({"choice": ["ab"]}, tiny.tokenizer)
    assert len(constraint.allowed()) == tiny.tokenizer.vocab_size
    sampler = Sampler(SamplingParams(seed=0), constraint=constraint)
    padded = torch.zeros(tiny.tokenizer.vocab_size + 90)
    assert tiny.tokenizer.token_bytes(Sampler(SamplingParams(seed=0), constraint=constraint.fork()).choose(padded)) in (
        b"a",
        b"ab",
    )
    cut = tiny.tokenizer.vocab_size - 5
    assert tiny.tokenizer.token_bytes(sampler.choose(torch.zeros(cut))) in (b"a", b"ab")


@pytest.mark.parametrize("continues", [False, True])
def test_sentencepiece(llama_like: Tokenizer, continues: bool):
    """The text that is shown obeys, although the first token brings a space that is dropped."""
    spec = {"choice": ["furnace", " iron", "  two", "é火"]}
    seen = set()
    for seed in range(80):
        constraint = constraint_for(spec, llama_like, continues=continues)
        text, done = wander(constraint, llama_like, seed, continues=continues)
        assert done and text in spec["choice"]
        seen.add(text)
    assert len(seen) == 4
    for seed in range(10):
        constraint = constraint_for({"json_schema": thing(a=WORD, b=SMALL)}, llama_like, continues=continues)
        text, done = wander(constraint, llama_like, seed, continues=continues)
        if done:
            jsonschema.validate(json.loads(text), thing(a=WORD, b=SMALL))
    first = constraint_for({"choice": ["the furnace"]}, llama_like).allowed()
    spaced = llama_like.encode("the furnace")[0]  # "▁the", as models of this kind begin
    assert llama_like.token_bytes(spaced).startswith(b" ") and bool(first[spaced])


def test_rollback_and_fork(tiny: LanguageModel, llama_like: Tokenizer):
    for tokenizer in (tiny.tokenizer, llama_like):
        constraint = constraint_for({"json_schema": thing(a=WORD)}, tokenizer)
        masks, ids = [constraint.allowed()], tokenizer.encode('{"a": "iron"}')
        for token in ids:
            constraint.advance(token)
            masks.append(constraint.allowed())
        assert constraint.may_stop
        other = constraint.fork()
        for back in (1, 3, len(ids) - 4):
            other.rollback(back)
        assert torch.equal(other.allowed(), masks[0]) and not other.may_stop and constraint.may_stop
        for place, token in enumerate(ids):
            assert torch.equal(other.allowed(), masks[place])
            other.advance(token)
        with pytest.raises(ValueError, match="take back"):
            other.rollback(len(ids) + 1)


def test_forced_tokens(tiny: LanguageModel):
    constraint = constraint_for({"json_schema": thing(furnace={"const": "iron"})}, tiny.tokenizer)
    for token in tiny.tokenizer.encode('{"'):
        constraint.advance(token)
    untouched = constraint.fork().allowed()
    forced = constraint.forced()
    assert torch.equal(constraint.fork().allowed(), untouched)
    assert forced[:1] == tiny.tokenizer.encode("furnace")[:1]
    for token in forced:
        assert constraint.allowed()[token]
        constraint.advance(token)
    assert constraint_for({"regex": "a|b"}, tiny.tokenizer).forced() == []


def test_special_tokens_are_no_text(tiny: LanguageModel):
    mask = constraint_for({"regex": r"(.|\n)*"}, tiny.tokenizer).allowed()
    specials = {i for i in tiny.tokenizer.special_ids if mask[i]}
    assert specials == set(tiny.tokenizer.eos_ids)


def test_masks_are_the_same_computed_beside(tiny: LanguageModel):
    spec = {"json_schema": thing(a=WORD, b=listed(SMALL))}
    one, two = (constraint_for(spec, tiny.tokenizer) for _ in range(2))
    for token in tiny.tokenizer.encode('{"a": "x", "b": [1, 2]}'):
        two.start()
        two.start()
        assert torch.equal(one.allowed(), two.allowed())
        one.advance(token)
        two.start()
        two.advance(token)
    two.start()
    assert two.finished == one.finished and two.may_stop


def test_threads_share_a_compiled_grammar(tiny: LanguageModel):
    spec = {"json_schema": thing(a=WORD, b=SMALL, c=listed(WORD))}
    texts: dict[int, str] = {}

    def work(seed: int) -> None:
        texts[seed] = wander(constraint_for(spec, tiny.tokenizer), tiny.tokenizer, seed)[0]

    threads = [threading.Thread(target=work, args=(seed % 4 + 10 * (seed // 4),)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in texts:
        assert texts[seed] == wander(constraint_for(spec, tiny.tokenizer), tiny.tokenizer, seed)[0]


LEAF = st.sampled_from(
    [
        WORD,
        SMALL,
        {"type": "boolean"},
        {"type": "null"},
        {"enum": [1, "a"]},
        {"type": "number"},
        {},
        True,
        {"type": "string", "minLength": 2},
        {"const": 3},
        {"pattern": "^a+$"},
        {"maxLength": 2},
        False,
    ]
)
NAMES = st.sampled_from(["a", "b", "é", "long name", '"', ""])
SCHEMA = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 2}, inner),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda options: {"allOf": options}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda options: {"oneOf": options}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(
            lambda properties, required, more: {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": more,
            },
            st.dictionaries(NAMES, inner, max_size=3),
            st.lists(NAMES, max_size=2),
            inner,
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(schema=SCHEMA, seed=st.integers(0, 5))
def test_any_schema_is_refused_or_obeyed(tiny: LanguageModel, schema: Any, seed: int):
    try:
        constraint = constraint_for({"json_schema": schema}, tiny.tokenizer)
        text, done = wander(constraint, tiny.tokenizer, seed, steps=200)
    except RequestError as error:
        assert "\n" not in error.one_line()
        return
    if done:
        try:
            value = json.loads(text)
        except ValueError:
            assert re.search(r"\d{4300}", text)  # Python's limit, not JSON's
            return
        jsonschema.Draft202012Validator(schema).validate(value)
