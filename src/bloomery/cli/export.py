"""`bloomery export`: a model as a folder or file that others read. This module does not know the formats."""

from __future__ import annotations

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
    """Write a model as a Hugging Face folder (transformers, vLLM), or as a GGUF file (llama.cpp)."""
    common = common or Common()
    if not gguf and target.suffix == ".gguf":
        raise ConfigError(f"{target} looks like a file for llama.cpp", hint="add --gguf")
    from bloomery.engine.exchange import export_model
    from bloomery.engine.gguf_file import export_gguf

    workspace = common.workspace()
    reference = model or workspace.latest("model")
    write = export_gguf if gguf else export_model
    made = write(reference, target, dtype=dtype, workspace=workspace)
    files = sorted(path for path in made.iterdir()) if made.is_dir() else [made]
    size = sum(path.stat().st_size for path in files)
    if common.json:
        print_json({"path": str(made), "files": [path.name for path in files], "bytes": size})
        return
    print(f"{made}  {size:,} bytes")
