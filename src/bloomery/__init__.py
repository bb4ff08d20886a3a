"""bloomery: raw text in, a language model that you own out, every joule on the way written down.

    import bloomery as bl
    corpus = bl.curate("docs/**/*.md")
    tokenizer = bl.train_tokenizer(corpus)
    model = bl.load(bl.pretrain(corpus, tokenizer, minutes=5))
    model.generate("Once upon a time", max_new_tokens=32, temperature=0.0, seed=0)

Names are loaded when they are first used: importing this package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bloomery.adapt.comparison import compare as compare
    from bloomery.adapt.tuning.adapt import adapt as adapt
    from bloomery.core.artifact import Artifact as Artifact
    from bloomery.core.errors import BloomeryError as BloomeryError
    from bloomery.core.workspace import Workspace as Workspace
    from bloomery.corpus import curate as curate
    from bloomery.engine import load as load
    from bloomery.evaluate import evaluate as evaluate
    from bloomery.retrieve import index as index
    from bloomery.retrieve import open_index as open_index
    from bloomery.retrieve.answers import ask as ask
    from bloomery.server import serve as serve
    from bloomery.tokenizer import tokenize as tokenize
    from bloomery.tokenizer import train_tokenizer as train_tokenizer
    from bloomery.training import pretrain as pretrain

_HOMES = {
    "adapt": "bloomery.adapt",
    "Artifact": "bloomery.core.artifact",
    "BloomeryError": "bloomery.core.errors",
    "Workspace": "bloomery.core.workspace",
    "ask": "bloomery.retrieve.answers",
    "compare": "bloomery.adapt.comparison",
    "curate": "bloomery.corpus",
    "evaluate": "bloomery.evaluate",
    "index": "bloomery.retrieve",
    "load": "bloomery.engine",
    "open_index": "bloomery.retrieve",
    "pretrain": "bloomery.training",
    "serve": "bloomery.server",
    "tokenize": "bloomery.tokenizer",
    "train_tokenizer": "bloomery.tokenizer",
}

__all__ = [
    "Artifact",
    "BloomeryError",
    "Workspace",
    "__version__",
    "adapt",
    "ask",
    "compare",
    "curate",
    "evaluate",
    "index",
    "load",
    "open_index",
    "pretrain",
    "serve",
    "tokenize",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its floor (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(home)
    return module if home == f"{__name__}.{name}" else getattr(module, name)  # a floor that can be called


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
