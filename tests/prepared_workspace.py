"""A workspace with a corpus of random words, its tokenizer and tokens: for tests that kill training.

Test modules read it with `runpy`, for pytest's import mode knows no helper modules.
"""

from __future__ import annotations

import random
from pathlib import Path

from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import TokenizerConfig, tokenize, train_tokenizer


def prepare(folder: Path, *, documents: int) -> tuple[Path, list[str]]:
    """Makes it in `folder`; its home, and the ids of corpus, tokenizer and tokens."""
    text = folder / "text"
    text.mkdir()
    rng = random.Random(0)
    words = [f"word{n}" for n in range(200)]
    for n in range(documents):
        (text / f"{n:03}.txt").write_text(" ".join(rng.choice(words) for _ in range(rng.randrange(20, 300))))
    workspace = Workspace(folder / "home")
    corpus = curate([str(text)], config=CurateConfig(decontaminate_words=0), workspace=workspace)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=300), workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    workspace.ledger.close()
    return folder / "home", [corpus.id, tokenizer.id, tokens.id]
