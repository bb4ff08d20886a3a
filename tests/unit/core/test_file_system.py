"""Which file systems several machines share."""

from __future__ import annotations

from pathlib import Path

from bloomery.core.file_system import on_network

MOUNTS = [("/", "ext4"), ("/mnt/shared", "nfs4"), ("/mnt/shared/scratch", "xfs"), ("/scratch", "lustre"), ("/", "ext4")]


def test_the_innermost_mount_counts():
    assert not on_network(Path("/home/me"), MOUNTS)
    assert on_network(Path("/mnt/shared/home"), MOUNTS) and on_network(Path("/scratch"), MOUNTS)
    assert not on_network(Path("/mnt/shared/scratch/x"), MOUNTS) and not on_network(Path("/mnt/sharedx"), MOUNTS)
    assert not on_network(Path("/anywhere"), [])


def test_of_this_machine(tmp_path: Path):
    assert on_network(tmp_path) in (True, False)
