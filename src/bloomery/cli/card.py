"""`bloomery runs card`: a corpus's card, in Markdown or JSON, or as a folder for a hub.

This module does not know what a card says.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.corpus.document import Document

_SAID_EVERY = 100_000


def card(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    out: Annotated[
        Path | None, Parameter(help="Write README.md and card.json into this folder, which is made.")
    ] = None,
    data: Annotated[
        bool, Parameter(negative=(), help="With --out: copy the shards too, as a dataset that a hub shows.")
    ] = False,
    license_: Annotated[
        str, Parameter(name="--license", help="The license you publish it under [default: what the sources name].")
    ] = "",
    title: Annotated[str, Parameter(help="A name for people.")] = "",
    examples: Annotated[int, Parameter(help="Excerpts to show.", validator=validators.Number(gte=0, lte=50))] = 3,
    common: Common | None = None,
) -> None:
    """A corpus's dataset card: sources, licenses, counts, languages, drops, mix, examples, cost."""
    common = common or Common()
    if data and out is None:
        raise ConfigError("--data copies the shards into a folder", hint="add --out FOLDER")
    from bloomery.core.artifact import disk_errors
    from bloomery.corpus.card import card_of
    from bloomery.corpus.card_page import card_page

    workspace = common.workspace()
    found = workspace.find(corpus, kind="corpus") if corpus else workspace.latest("corpus")
    total, done = sum(found.metrics["documents"].values()), 0

    def shown(documents: Iterator[Document]) -> Iterator[Document]:
        nonlocal done
        for document in documents:
            yield document
            done += 1
            if not common.quiet and done % _SAID_EVERY == 0:
                print(f"card: {done:,} of {total:,} documents", file=sys.stderr)

    made = card_of(found, examples=examples, shown=shown)
    page = card_page(made, license_=license_, title=title)
    if out is not None:
        with disk_errors(f"cannot write {out}"):
            out.mkdir(parents=True, exist_ok=True)
            (out / "README.md").write_text(page, encoding="utf-8")
            (out / "card.json").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            for split in made["splits"] if data else ():
                for path in found.files(f"{split}-*.jsonl.zst"):
                    shutil.copyfile(path, out / path.name)
    if common.json:
        print_json(made)
    elif out is None:
        print(page, end="")
    else:
        print(f"{out / 'README.md'}  {found.name}")
