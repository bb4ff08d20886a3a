"""`bloomery export`: a model as a folder or file that others read. This module does not know the formats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.generate import ModelName
from bloomery.cli.import_model import Dtype
from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ConfigError


def export(
    target: Annotated[Path, Parameter(help="A new folder (or with --gguf a new file) to write.")],
    *,
    model: ModelName = "",
    dtype: Dtype = None,
    gguf: Annotated[bool, Parameter(negative=(), help="One file for llama.cpp.")] = False,
    common: Common | None = None,
) -> None:
    """Write a model as a Hugging Face folder (transformers, vLLM), or as a GGUF file (llama.cpp).

    Recurrent nets and small classifiers, which no other program has, become a folder that `bloomery import` reads.
    """
    common = common or Common()
    if not gguf and target.suffix == ".gguf":
        raise ConfigError(f"{target} looks like a file for llama.cpp", hint="add --gguf")
    from bloomery.engine.exchange import export_model
    from bloomery.engine.gguf_file import export_gguf

    workspace = common.workspace()
    reference = model or workspace.latest("model")
    write = export_gguf if gguf else export_model
    notes: list[str] = []
    made = write(reference, target, dtype=dtype, workspace=workspace, note=notes.append)
    files = sorted(path for path in made.rglob("*") if path.is_file()) if made.is_dir() else [made]
    size = sum(path.stat().st_size for path in files)
    if common.json:
        names = [path.relative_to(made).as_posix() if made.is_dir() else path.name for path in files]
        print_json({"path": str(made), "files": names, "bytes": size, "notes": notes})
        return
    print(f"{made}  {size:,} bytes")
    for sentence in notes:
        print(f"note: {sentence}", file=sys.stderr)
