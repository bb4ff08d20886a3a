"""The contrastive loss of texts against sentence-transformers on the same weights, and passages known to be right."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.encoder import Encoder, save_encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.models.pooling import Dense, Pooling
from bloomery.training.loader import ExampleLoader
from bloomery.training.text_pairs import TextContrastiveObjective, TextGroup

WORDS = [
    *("iron", "ore", "charcoal", "furnace", "bloom", "slag"),
    *("hammer", "anvil", "smith", "forge", "heat", "air"),
    *("bellows", "clay", "hearth", "wrought"),
]


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(
        EncoderConfig(
            model_type="bert",
            vocab_size=5 + len(WORDS),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
            type_vocab_size=2,
            attention_bias=True,
            mlp_bias=True,
            initializer_range=0.2,
            pad_token_id=0,
        )
    ).eval()


def ids(text: str) -> list[int]:
    return [2, *(5 + WORDS.index(word) for word in text.split()), 3]


def texts(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=2 + n % 4)) for n in range(count)]


def groups(count: int = 6, negatives: int = 2) -> list[TextGroup]:
    queries, passages = texts(1, count), [texts(2 + n, count) for n in range(1 + negatives)]
    return [
        TextGroup(
            query_ids=ids(queries[row]),
            passage_ids=tuple(ids(column[row]) for column in passages),
            keys=tuple(f"{row}-{n}" for n in range(1 + negatives)),
            relevant=frozenset({f"{row}-0"}),
        )
        for row in range(count)
    ]


def objective(examples: list[TextGroup], **options) -> TextContrastiveObjective:
    loader = ExampleLoader(examples, examples, rows=len(examples), seed=0)
    return TextContrastiveObjective(encoder(), loader, seed=0, **options)


def arrays(made: TextContrastiveObjective, examples: list[TextGroup]) -> dict[str, torch.Tensor]:
    batch = made.collate(examples, np.random.default_rng(0), training=True)
    return {name: torch.from_numpy(array) for name, array in batch.arrays.items()}


@pytest.mark.filterwarnings("ignore")  # of sentence-transformers' own
@pytest.mark.parametrize(("both", "negatives"), [(False, 0), (False, 2), (True, 0)])
def test_loss_equals_sentence_transformers(tmp_path, both: bool, negatives: int):
    logging.disable(logging.WARNING)
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import MultipleNegativesRankingLoss  # type: ignore[import-not-found]
    from sentence_transformers.models import Pooling as TheirPooling  # type: ignore[import-not-found]
    from sentence_transformers.models import Transformer  # type: ignore[import-not-found]
    from transformers import BertTokenizerFast  # type: ignore[attr-defined]

    made = objective(groups(negatives=negatives), both=both)
    save_encoder(made.encoder, tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    part = Transformer(str(tmp_path), max_seq_length=32)
    theirs = SentenceTransformer(modules=[part, TheirPooling(32)], device="cpu").eval()
    if both:
        from sentence_transformers.losses import MultipleNegativesSymmetricRankingLoss as Loss  # type: ignore[import-not-found]
    else:
        Loss = MultipleNegativesRankingLoss
    columns = [texts(1 + n, 6) for n in range(2 + negatives)]
    features = [theirs.tokenize(column) for column in columns]
    logging.disable(logging.NOTSET)
    expected = Loss(theirs, scale=20.0)(features, torch.zeros(6))
    found = made.loss(arrays(made, groups(negatives=negatives))) / 6
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_what_is_known_to_answer_is_no_wrong_answer():
    """By the formula in NumPy, with the columns that answer taken out."""
    examples = groups()
    shared = TextGroup(
        query_ids=examples[1].query_ids,
        passage_ids=(examples[0].passage_ids[0], *examples[1].passage_ids[1:]),
        keys=("0-0", *examples[1].keys[1:]),
        relevant=frozenset({"0-0", "3-2"}),
    )
    examples[1] = shared
    made = objective(examples)
    given = arrays(made, examples)
    assert given["known"].nonzero().tolist() == [[0, 1], [1, 0], [1, 3 + 2 * 6]]
    with torch.no_grad():
        logits = made.similarity(given).double().numpy()
        found = float(made.loss(given))
    logits[given["known"].numpy()] = -np.inf
    wanted = -(np.diag(logits[:, :6]) - np.log(np.exp(logits).sum(1))).sum()
    assert found == pytest.approx(wanted, rel=1e-5)
    figures = made.figures(given)
    assert figures["recall_in_batch"] == (logits.argmax(1) == np.arange(6)).sum()


def test_it_learns():
    examples = groups()
    made = objective(examples)
    made.encoder.train()
    optimizer = torch.optim.AdamW(made.encoder.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        given = {name: torch.from_numpy(one) for name, one in made.next_batch(6).arrays.items()}
        loss = made.loss(given) / 6
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_mistakes_are_errors():
    with pytest.raises(DataError, match="the first alone"):
        TextGroup(query_ids=[2], passage_ids=([2], [3]), keys=("a", "b"), relevant=frozenset({"a", "b"}))
    with pytest.raises(DataError, match="a key for each"):
        TextGroup(query_ids=[2], passage_ids=([2],), keys=(), relevant=frozenset())
    with pytest.raises(DataError, match="as many hard negatives"):
        arrays(objective(groups()), [*groups(2), *groups(2, 1)])
    with pytest.raises(ConfigError, match="dense"):
        objective(groups(), pooling=Pooling(dense=(Dense(torch.eye(32), None, "Tanh"),)))
    with pytest.raises(ConfigError, match="scale"):
        objective(groups(), scale=0.0)
