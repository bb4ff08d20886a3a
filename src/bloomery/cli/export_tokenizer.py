"""`bloomery export --tokenizer`: a tokenizer as a file or folder that others read.

This module does not know the formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.core.artifact import write_durably
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.core.workspace import Workspace

TokenizerName = Annotated[
    str,
    Parameter(
        help="Write this tokenizer (an artifact, folder or file) and no model: TARGET.model is SentencePiece's file, "
        "TARGET.tiktoken tiktoken's, anything else a folder."
    ),
]
_FORMS = {".model": "SentencePiece", ".tiktoken": "tiktoken"}


def export_tokenizer(target: Path, reference: str, workspace: Workspace) -> dict[str, Any]:
    """Write the tokenizer of an artifact, folder or file: TARGET.model for SentencePiece, TARGET.tiktoken (and a JSON
    file beside it) for tiktoken, else a new Hugging Face folder. Returns what was written."""
    from bloomery.tokenizer import Tokenizer
    from bloomery.tokenizer.forms import as_sentencepiece, as_tiktoken
    from bloomery.tokenizer.opening import open_tokenizer

    if target.exists():
        raise ConfigError(f"{target} already exists", hint="name a new file or folder")
    folder = Path(reference)
    tokenizer = Tokenizer.load(folder) if folder.is_dir() else open_tokenizer(reference, workspace).tokenizer
    files: dict[Path, bytes] = {}
    if target.suffix == ".model":
        files[target] = as_sentencepiece(tokenizer)
    elif target.suffix == ".tiktoken":
        files[target], files[target.with_name(f"{target.name}.json")] = as_tiktoken(tokenizer)
    if not files:
        tokenizer.save(target)
        written = sorted(target.iterdir())
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            write_durably(path, data)
        written = list(files)
    return {
        "path": str(target),
        "form": _FORMS.get(target.suffix, "Hugging Face"),
        "files": [path.name for path in written],
        "bytes": sum(path.stat().st_size for path in written),
        "vocab_size": tokenizer.vocab_size,
    }
