"""Places: where indexes lie: in the workspace by name, or in any folder by path. This module does not open them."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from bloomery.core.errors import ArtifactError, ConfigError, nearest
from bloomery.core.workspace import Workspace
from bloomery.retrieve.store.renewal import BESIDE
from bloomery.retrieve.store.schema import FILE
from bloomery.retrieve.store.writer import LOCK, OF_GENERATION

FOLDER = "indexes"
SERVER = "qdrant+"
"""Before the address of an index on a server: qdrant+http://HOST:6333/COLLECTION."""
_NAME = re.compile(r"[\w][\w.-]{0,99}")
_OURS = re.compile(rf"{re.escape(FILE)}(?:-wal|-shm|-journal)?|{re.escape(LOCK)}|{BESIDE}|{OF_GENERATION.pattern}")
"""Names in an index's folder."""


def server_of(name: str | Path) -> tuple[str, str] | None:
    """(address, collection) of an index on a Qdrant server; None for a name or a path. qdrant+file:FOLDER/COLLECTION is
    the client's own store, for trials. ConfigError for an address that is none."""
    if not isinstance(name, str) or not name.startswith(SERVER):
        return None
    address, _, collection = name.removeprefix(SERVER).rpartition("/")
    if address.startswith("file:"):
        address = address.removeprefix("file:")
    elif not re.fullmatch(r"https?://[^/@\s]+", address):
        address = ""
    if not address or not _NAME.fullmatch(collection):
        raise ConfigError(f"{name!r} is no index on a server", hint=f"{SERVER}http://HOST:6333/COLLECTION")
    return address, collection


def index_folder(name: str | Path, workspace: Workspace) -> Path:
    """The folder of an index: a name's in the workspace, a path's own. ConfigError for what is neither."""
    if server_of(name) is not None:
        raise ConfigError(f"{name} is no folder of this machine", hint="a server's: index, index search, ask")
    if isinstance(name, Path) or "/" in name:
        return Path(name).expanduser()
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of an index", hint="letters, digits, _ . - or a path with a /")
    return workspace.root / FOLDER / name


def known_indexes(workspace: Workspace) -> list[str]:
    """The names of the workspace's indexes."""
    return sorted(path.parent.name for path in (workspace.root / FOLDER).glob(f"*/{FILE}"))


def existing_index(name: str | Path, workspace: Workspace) -> Path:
    """The folder of an index that is there; ArtifactError with the nearest name where it is not."""
    folder = index_folder(name, workspace)
    if not (folder / FILE).is_file():
        known = known_indexes(workspace)
        hint = nearest(str(name), known) if known else "bloomery index PATHS --into NAME makes one"
        raise ArtifactError(f"no index {str(name)!r} in {workspace.root}", hint=hint)
    return folder


def remove_index(folder: Path) -> None:
    """An index and all its files; nothing where there is none. ArtifactError for a folder that holds other things."""
    if not folder.is_dir():
        return
    strange = sorted(path.name for path in folder.iterdir() if not _OURS.fullmatch(path.name))
    if strange:
        raise ArtifactError(f"{folder} holds {strange[0]}, which is no part of an index", hint="give another folder")
    shutil.rmtree(folder)


def unmake_index(folder: Path) -> None:
    """The files of an index that came to nothing, and the folder where nothing else is in it."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.is_file():
            path.unlink()
    with suppress(OSError):
        folder.rmdir()
