"""`bloomery keys`: make an API key, or say which there are. This module does not know HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bloomery.cli.options import Common, print_json


def keys(
    file: Annotated[Path, Parameter(help="A TOML file of keys, which holds only their salted hashes.")],
    *,
    new: Annotated[str, Parameter(help="Make a key of this name and print it, once.")] = "",
    right: Annotated[
        list[Literal["inspect", "admin"]] | None,
        Parameter(negative=(), help="A right of the new key: look inside requests, load and unload models."),
    ] = None,
    requests_per_minute: Annotated[int | None, Parameter(help="A limit of the new key.")] = None,
    tokens_per_minute: Annotated[int | None, Parameter(help="A limit of the new key, prompts included.")] = None,
    concurrent_requests: Annotated[int | None, Parameter(help="A limit of the new key.")] = None,
    common: Common | None = None,
) -> None:
    """API keys for `bloomery serve --keys FILE`. A key is revoked by deleting its table from the file."""
    common = common or Common()
    from bloomery.server.allowance import Limits
    from bloomery.server.keys import add_key, read_keys

    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrent_requests=concurrent_requests,
    )
    if new:
        key = add_key(file, new, rights=tuple(dict.fromkeys(right or ())), limits=limits)
        print_json({"name": new, "key": key}) if common.json else print(key)
        return
    listed = [
        {"name": name, "rights": list(entry.rights), **{k: v for k, v in vars(entry.limits).items() if v is not None}}
        for name, entry in read_keys(file).items()
    ]
    if common.json:
        print_json(listed)
        return
    for entry in listed:
        print("  ".join(f"{k}={v}" if k != "name" else str(v) for k, v in entry.items() if v != []))
