"""`bloomery runs`: what was done, what came out of it, whether it is sound, and making room.

This module does not know how runs are recorded (`core.ledger`) nor how artifacts are checked (`core.artifact`).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter, validators

from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ArtifactError, DamagedError
from bloomery.core.quantity import Quantity

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.workspace import Workspace

app = App(name="runs", help="What was done, what came out of it, and whether it is sound.", help_format="plaintext")
app.command("bloomery.cli.card:card", name="card", help="A corpus's card: Markdown, JSON, or a folder for a hub.")
Limit = Annotated[int, Parameter(help="Newest runs to list.", validator=validators.Number(gte=1, lt=2**63))]
Reference = Annotated[str, Parameter(help="A run's id or its beginning, or an artifact's name, id or folder.")]


@app.default
def list_runs(
    *,
    stage: Annotated[str, Parameter(help="Runs of this stage only.")] = "",
    limit: Limit = 30,
    common: Common | None = None,
) -> None:
    """List runs, newest first."""
    common = common or Common()
    workspace = common.workspace()
    rows = workspace.ledger.runs(stage=stage or None, limit=limit)
    if common.json:
        print_json(rows)
        return
    if not rows:
        which = f" of stage {stage!r}" if stage else ""
        begin = "; begin with: bloomery demo" if not stage else "; bloomery runs lists all"
        print(f"no runs{which} in {workspace.root} yet{begin}")
        return
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["started"]))
        spent = f"{row['seconds']:8.1f} s" if row["seconds"] is not None else "         -"
        made = row["artifact"][:12] if row["artifact"] else (row["error"] or "")[:60]
        print(f"{when}  {row['state']:8} {spent}  {row['id']}  {made}")


@app.command
def show(reference: Reference, *, common: Common | None = None) -> None:
    """One run, or one artifact, in full."""
    common = common or Common()
    workspace = common.workspace()
    artifact = _artifact(workspace, reference)
    data: dict[str, Any]
    if artifact is not None:
        data = {"name": artifact.name, "path": str(artifact.path), **artifact.manifest}
    else:
        data = workspace.ledger.run(reference)
    if common.json:
        print_json(data)
        return
    for key, value in data.items():
        text = Quantity.from_dict(value).text("J") if key == "energy_joules" else _short(value)
        print(f"{key:16} {text}")


@app.command
def lineage(
    artifact: Annotated[str, Parameter(help="An artifact: name, id or folder [default: the latest model].")] = "",
    *,
    common: Common | None = None,
) -> None:
    """Where an artifact came from: its ancestors, and what each cost."""
    common = common or Common()
    workspace = common.workspace()
    start = workspace.find(artifact, verify=False) if artifact else workspace.latest("model")
    rows = workspace.lineage(start)
    if common.json:
        print_json([_ancestor(depth, identity, found) for depth, identity, found in rows])
        return
    for depth, identity, found in rows:
        if found is None:
            print(f"{'  ' * depth}{identity[:12]}  is no longer on disk")
            continue
        cost = f"{found.manifest['seconds']:.1f} s, {found.energy_joules.text('J')}"
        print(f"{'  ' * depth}{found.name}  {found.manifest['stage']}: {cost}")


@app.command
def verify(
    *artifacts: Annotated[str, Parameter(help="Names, ids or folders [default: all].")], common: Common | None = None
) -> None:
    """Read and hash every byte of artifacts; each damaged file is named, and the exit code is then 2."""
    common = common or Common()
    from bloomery.core.artifact import Artifact

    workspace = common.workspace()
    folders = [_folder(workspace, name) for name in artifacts] or sorted(workspace.artifacts.glob("*-*"))
    problems: list[dict[str, Any]] = []
    removable = False
    for folder in folders:
        try:
            Artifact.open(folder)
            state = "sound"
        except ArtifactError as error:
            files = _damaged_files(folder) if isinstance(error, DamagedError) else []
            removable = removable or isinstance(error, DamagedError)
            problems.append({"artifact": folder.name, "problem": error.message, "files": files})
            also = f"; all its damaged files: {', '.join(files)}" if len(files) > 1 else ""
            state = f"DAMAGED: {error.message}{also}"
        if not common.json:
            print(f"{folder.name}  {state}")
    if common.json:
        print_json({"checked": len(folders), "damaged": problems})
    elif not folders:
        print(f"no artifacts in {workspace.root} yet")
    if problems:
        raise ArtifactError(
            f"{len(problems)} of {len(folders)} artifacts are damaged, the first: {problems[0]['problem']}",
            hint="bloomery runs gc --damaged removes them; their stages then run again" if removable else "",
        )


@app.command
def gc(
    *,
    damaged: Annotated[bool, Parameter(negative=(), help="Remove artifacts that are not sound.")] = False,
    unused: Annotated[bool, Parameter(negative=(), help="Remove what no model and no scores came from.")] = False,
    dry_run: Annotated[bool, Parameter(negative=(), help="Say what would be removed, and remove nothing.")] = False,
    common: Common | None = None,
) -> None:
    """Make room: left-over scratch of finished stages, and with flags more. A sound model is never removed."""
    common = common or Common()
    workspace = common.workspace()
    doomed = _idle_scratch(workspace)
    doomed += _damaged(workspace) if damaged else []
    doomed += _unused(workspace) if unused else []
    freed, gone = 0, []
    for folder in dict.fromkeys(doomed):  # damaged and unused at once is one folder
        size = (
            sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if dry_run else _remove(workspace, folder)
        )
        if size is None:
            continue
        freed += size
        gone.append(str(folder.relative_to(workspace.root)))
        if not common.json:
            print(f"{'would remove' if dry_run else 'removed'} {gone[-1]}  {size:,} bytes")
    if common.json:
        print_json({"removed": gone, "bytes": freed, "dry_run": dry_run})
    else:
        print(f"{freed:,} bytes {'could be ' if dry_run else ''}freed")


def _remove(workspace: Workspace, folder: Path) -> int | None:
    """Remove a folder and return its bytes; None if it is scratch that a run has begun to use in the meantime."""
    from bloomery.core.workspace import scratch_lock

    if folder.parent != workspace.scratch:
        return workspace.remove(folder)
    lock = scratch_lock(folder)
    if not lock.try_acquire():
        return None
    try:
        return workspace.remove(folder) if folder.is_dir() and folder.name not in _resumable(workspace) else None
    finally:
        lock.release()


def _idle_scratch(workspace: Workspace) -> list[Path]:
    """Scratch folders that no process holds and that no failed run could still be resumed from."""
    from bloomery.core.workspace import scratch_lock

    resumable = _resumable(workspace)
    idle = []
    for folder in sorted(p for p in workspace.scratch.iterdir() if p.is_dir()):
        lock = scratch_lock(folder)
        if folder.name not in resumable and lock.try_acquire():
            lock.release()
            idle.append(folder)
    return idle


def _resumable(workspace: Workspace) -> set[str]:
    """Names of scratch folders whose newest run did not finish."""
    from bloomery.core.workspace import scratch_name

    newest: dict[str, str] = {}
    for row in workspace.ledger.runs(limit=100_000):
        newest.setdefault(scratch_name(row["stage"], row["key"]), row["state"])
    return {name for name, state in newest.items() if state != "finished"}


def _damaged_files(folder: Path) -> list[str]:
    """Every listed file that is missing or differs; none if the manifest itself cannot be read."""
    from bloomery.core.artifact import MANIFEST, sha256_file

    try:
        listed = [(str(f["path"]), str(f["sha256"])) for f in json.loads((folder / MANIFEST).read_bytes())["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    found = []
    for name, sha in listed:
        path = folder / name
        if ".." in Path(name).parts or not path.is_file() or sha256_file(path) != sha:
            found.append(name)
    return found


def _damaged(workspace: Workspace) -> list[Path]:
    from bloomery.core.artifact import Artifact

    found = []
    for folder in sorted(p for p in workspace.artifacts.iterdir() if p.is_dir()):
        try:
            Artifact.open(folder)
        except DamagedError:
            found.append(folder)
        except ArtifactError as error:  # unreadable, or of a newer version: not ours to call damaged
            print(f"left alone: {error.one_line()}", file=sys.stderr)
    return found


def _unused(workspace: Workspace) -> list[Path]:
    """Sound artifacts that are no model, no scores, and no ancestor of one."""
    from bloomery.core.artifact import Artifact

    # What a stage that is at work in another process reads is in use, though nothing has come of it yet.
    working = [workspace.ledger.run(row["id"])["inputs"] for row in workspace.ledger.unfinished()]
    kept: set[str] = {identity for inputs in working for identity in inputs}
    sound: dict[str, Path] = {}
    for folder in sorted(p for p in workspace.artifacts.iterdir() if p.is_dir()):
        try:
            artifact = Artifact.open(folder, verify=False)
        except ArtifactError:
            continue
        sound[artifact.id] = folder
        if artifact.kind in ("model", "scores"):
            kept |= {identity for _, identity, _ in workspace.lineage(artifact)}
    return [folder for identity, folder in sound.items() if identity not in kept]


def _artifact(workspace: Workspace, reference: str) -> Artifact | None:
    if Path(reference, "manifest.json").is_file() or workspace.matching(reference):
        return workspace.find(reference, verify=False)
    return None


def _folder(workspace: Workspace, name: str) -> Path:
    """The folder of an artifact that may well be damaged."""
    if Path(name).is_dir():
        return Path(name)
    matches = workspace.matching(name)
    if len(matches) != 1:
        raise ArtifactError(f"{'several artifacts fit' if matches else 'no artifact'} {name!r}", hint="bloomery runs")
    return matches[0]


def _ancestor(depth: int, identity: str, found: Artifact | None) -> dict[str, Any]:
    if found is None:
        return {"depth": depth, "id": identity, "name": None}
    return {
        "depth": depth,
        "id": identity,
        "name": found.name,
        "stage": found.manifest["stage"],
        "seconds": found.manifest["seconds"],
        "energy_joules": found.energy_joules.to_dict(),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 400 else f"{text[:400]}... ({len(text):,} characters; --json shows all)"
