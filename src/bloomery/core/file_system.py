"""What kind of file system a folder is on: one that other machines write to as well, or not.

This module does not know what is kept there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_NAMES = (
    *("afpfs", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "juicefs", "lustre", "nfs", "nfs4"),
    *("ocfs2", "orangefs", "pvfs2", "s3fs", "smb3", "smbfs", "sshfs", "webdav", "wekafs"),
)
_NETWORK = frozenset(prefix + name for prefix in ("", "fuse.") for name in _NAMES)


def on_network(path: Path, mounts: Iterable[tuple[str, str]] | None = None) -> bool:
    """Whether other machines may have the folder open, too. `mounts` are (folder, file system) [default: this
    machine's]."""
    place = path.resolve()
    holding = [(Path(folder), kind) for folder, kind in (_mounts() if mounts is None else mounts)]
    holding = [(folder, kind) for folder, kind in holding if place.is_relative_to(folder)]
    return bool(holding) and max(holding, key=lambda one: len(one[0].parts))[1].lower() in _NETWORK


def _mounts() -> list[tuple[str, str]]:
    import psutil

    try:
        return [(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]
    except OSError:  # a system without a list of them
        return []
