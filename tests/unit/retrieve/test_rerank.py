"""Rerankers: a cross-encoder against transformers on the same weights, a language model against its own logits."""

from __future__ import annotations

import math
import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.messages import AnswerToken, ChatAnswer, ChatDelta, ChatOptions, Message, TokenChance, gathered
from bloomery.engine import load, load_language_model
from bloomery.models.encoder import Encoder, save_encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.retrieve.chunk import Chunk, Filters, Hit
from bloomery.retrieve.rerank import CrossEncoder, QueryLikelihood, Reranked, YesNo

WORDS = [
    *("iron", "ore", "charcoal", "furnace", "bloom", "slag"),
    *("hammer", "anvil", "smith", "forge", "heat", "air"),
    *("what", "was", "burned", "in", "the", "a"),
    *("it",),
]
PASSAGES = ["charcoal was burned in the furnace", "the smith", "a hammer the anvil " * 12, "iron ore it was"]


def folder(path: Path, labels: int) -> Path:
    from transformers import BertTokenizerFast  # type: ignore[attr-defined]

    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(1)
    config = EncoderConfig(
        model_type="bert",
        vocab_size=5 + len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=48,
        type_vocab_size=2,
        attention_bias=True,
        mlp_bias=True,
        initializer_range=0.2,
        pad_token_id=0,
        head="sequence",
        num_labels=labels,
    )
    save_encoder(Encoder(config), path)
    return path


class Listed:
    name = "listed"

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> Sequence[Hit]:
        chunks = [Chunk(id=str(n), document_id="d", text=t, start=0, end=len(t)) for n, t in enumerate(PASSAGES)]
        return [Hit(chunk=one, score=9.0 - n, ranks={"lexical": n + 1}) for n, one in enumerate(chunks)][:k]


@pytest.mark.parametrize("labels", [1, 2])
def test_scores_equal_transformers(tmp_path, labels: int):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    made = folder(tmp_path / "m", labels)
    theirs = AutoModelForSequenceClassification.from_pretrained(made).eval()
    tokenizer = AutoTokenizer.from_pretrained(made)
    query = "what was burned in the furnace"
    batch = tokenizer(
        [query] * 4, PASSAGES, truncation="longest_first", max_length=48, padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        logits = theirs(**batch).logits
    wanted = logits[:, 0] if labels == 1 else logits[:, 1] - logits[:, 0]
    encoder = CrossEncoder(load(made))  # type: ignore[arg-type]
    assert encoder.scores(query, PASSAGES) == pytest.approx(wanted.tolist(), abs=1e-5)
    found = Reranked(Listed(), encoder, depth=4).search(query, k=3)
    order = sorted(range(4), key=lambda n: -float(wanted[n]))[:3]
    assert [int(hit.chunk.id) for hit in found] == order
    assert found[0].ranks == {"lexical": order[0] + 1, "retrieved": order[0] + 1}
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


class Judge:
    """Says yes to passages with charcoal, with a probability of .9; no to others, with .2 of yes."""

    name = "judge"

    def __init__(self, tells: bool) -> None:
        self.tells = tells

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        passage = messages[1]["content"].split("Question:")[0]
        yes = 0.9 if "charcoal" in passage else 0.2
        word, other = (b"yes", b"no") if yes > 0.5 else (b"no", b"yes")
        top = TokenChance(word, math.log(max(yes, 1 - yes))), TokenChance(other, math.log(min(yes, 1 - yes)))
        token = AnswerToken(word, top[0].logprob, top)
        yield ChatDelta(text=word.decode(), tokens=(token,) if self.tells else (), finish_reason="stop")

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        return gathered(self.stream(messages, options))


def test_a_model_says_yes_or_no():
    assert YesNo(Judge(True)).scores("q", PASSAGES) == pytest.approx([0.9, 0.2, 0.2, 0.2])
    assert YesNo(Judge(False), probabilities=False).scores("q", PASSAGES) == [1.0, 0.0, 0.0, 0.0]
    assert Reranked(Listed(), YesNo(Judge(True))).search("q", k=1)[0].chunk.id == "0"


def test_the_likelihood_of_the_question(tmp_path):
    tiny = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]
    model = load_language_model(tiny(tmp_path / "tiny"))
    scorer = QueryLikelihood(model)
    (found,) = scorer.scores("Who smelted iron?", ["A furnace."])
    asked = model.tokenizer.encode(" Who smelted iron?")
    before = model.tokenizer.encode("A furnace.", add_bos=model.tokenizer.adds_bos)
    before += model.tokenizer.encode(f"\n\n{scorer.instruction}")
    result = model.generate(before + asked, max_new_tokens=1, temperature=0.0, prompt_logprobs=0)
    from transformers import Qwen3ForCausalLM

    theirs = Qwen3ForCausalLM.from_pretrained(tmp_path / "tiny").eval()
    with torch.no_grad():
        logits = theirs(torch.tensor([before + asked])).logits[0].log_softmax(-1)
    wanted = sum(float(logits[len(before) + n - 1, token]) for n, token in enumerate(asked)) / len(asked)
    assert found == pytest.approx(wanted, abs=1e-4) and result.text is not None
    (cut,) = scorer.scores("Who smelted iron?", ["A furnace. " * 500])
    assert cut < 0
    with pytest.raises(RequestError, match="no room"):
        scorer.scores("iron " * 500, ["A"])
    model.close()


def test_mistakes(tmp_path):
    with pytest.raises(ConfigError, match="depth"):
        Reranked(Listed(), YesNo(Judge(True)), depth=0)
    with pytest.raises(ConfigError, match="no reranker"):
        CrossEncoder(load(folder(tmp_path / "m", 3)))  # type: ignore[arg-type]
