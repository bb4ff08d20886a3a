"""extend_model: a model whose tokenizer learns a domain's words, with rows for them to begin training from.

The result is a model like any other (a Hugging Face folder): it is meant to be trained on (`bloomery train`), for new
rows are guesses until they are. This module does not know how tokens are learnt nor what their rows are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bloomery.core.artifact import Artifact
from bloomery.core.config import digest, to_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.engine.finding import find_model
from bloomery.models.decoder import Decoder
from bloomery.models.kinds import kind_of
from bloomery.models.vocabulary import extend_vocabulary
from bloomery.models.weights import read_json
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.extend import ExtendConfig, Extension, extend

STAGE = "extend"
_VERSION = 1
_PIECE_CHARACTERS = 1 << 16
_COMPARED_BYTES = 2_000_000


def extend_model(
    model: str | Path | Artifact,
    corpus: Artifact,
    *,
    config: ExtendConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """A model (artifact, folder or hub id) with `config.tokens` more tokens, learnt on the corpus's training split.

    Metrics: added, vocab_size (ids of the tokenizer), rows (of the embedding), and bytes_per_token before and after on
    held-out text. ConfigError for a model that is no decoder; DataError for a tokenizer that is no byte-level BPE.
    """
    from bloomery.energy import open_meter

    workspace, config = as_workspace(workspace), config or ExtendConfig()
    folder, name = find_model(model, workspace)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = digest([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files])
    parents = (model.id, corpus.id) if isinstance(model, Artifact) else (corpus.id,)
    inputs = StageInputs(stage=STAGE, config=to_dict(config), parents=parents, fingerprint=found, version=_VERSION)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    kind = kind_of(read_json(folder / "config.json"))
    if Decoder not in kind.classes:
        raise ConfigError(f"{name} is no decoder ({kind.name}): its vocabulary cannot be extended")
    with Run(workspace, inputs, meter=open_meter()) as run:
        before = Tokenizer.load(folder)
        with run.phase("learn"), TemporaryDirectory(dir=run.scratch) as scratch:
            extension = extend(before, _texts(corpus, "train", config.sample_bytes), config, folder=Path(scratch))
        if len(extension.pieces) < config.tokens:
            run.note(f"the text holds only {len(extension.pieces):,} tokens that are frequent enough")
        with run.phase("write"):
            decoder = kind.load(folder)
            rows = decoder.config.vocab_size
            extend_vocabulary(decoder, extension.pieces)
            made = run.new_folder()
            kind.save(decoder, made)
            extension.tokenizer.save(made)
        metrics = {
            "added": len(extension.pieces),
            "vocab_size": extension.tokenizer.vocab_size,
            "rows": {"before": rows, "after": decoder.config.vocab_size},
            "bytes_per_token": _compared(before, extension, corpus),
            "parameters": sum(parameter.numel() for parameter in decoder.parameters()),
            "source": name,
        }
        return run.publish(made, kind=kind.artifact, metrics=metrics)


def _texts(corpus: Artifact, split: str, limit: int) -> Iterator[str]:
    """A split's texts, cut after line breaks, up to a number of bytes."""
    from bloomery.corpus import read_documents

    size = 0
    for document in read_documents(corpus, split):
        text = document.text
        start = 0
        while start < len(text):
            end = start + _PIECE_CHARACTERS
            cut = len(text) if end >= len(text) else text.rfind("\n", start, end) + 1 or end
            yield text[start:cut]
            size += len(text[start:cut].encode())
            start = cut
            if size >= limit:
                return
    if not size:
        raise DataError(f"the {split} split holds no text", hint="add documents and run `bloomery curate` again")


def _compared(before: Tokenizer, extension: Extension, corpus: Artifact) -> dict[str, float | None]:
    """Bytes a token on held-out text; None where there is none."""
    try:
        texts = list(_texts(corpus, "validation", _COMPARED_BYTES))
    except DataError:
        return {"before": None, "after": None}
    size = sum(len(text.encode()) for text in texts)
    both = {"before": before, "after": extension.tokenizer}
    return {key: round(size / sum(map(len, one.encode_batch(texts))), 4) for key, one in both.items()}
