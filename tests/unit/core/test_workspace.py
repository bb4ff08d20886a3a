"""Finding, tracing and removing artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ArtifactError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace, as_workspace


def make(workspace: Workspace, text: str, parents: tuple[str, ...] = ()) -> Artifact:
    with Run(workspace, StageInputs(stage="s", config={"text": text}, parents=parents)) as run:
        (run.new_folder() / "f").write_text(text)
        return run.publish(run.scratch / "output", kind="loaf")


def test_find(workspace: Workspace) -> None:
    made = make(workspace, "a")
    for reference in (made.path, made.name, made.id, made.id[:4], f"loaf-{made.id[:6]}"):
        assert workspace.find(reference).id == made.id
    for reference in ("none", made.id[:3], f"model-{made.id[:6]}"):
        with pytest.raises(ArtifactError):
            workspace.find(reference)
    twin = made.path.with_name(made.path.name[:-1] + "z")
    twin.mkdir()
    (twin / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="several"):
        workspace.find(made.id[:4])


def test_latest_and_lineage(workspace: Workspace) -> None:
    with pytest.raises(ArtifactError, match="no loaf"):
        workspace.latest("loaf")
    first = make(workspace, "a")
    second = make(workspace, "b", (first.id,))
    assert workspace.latest("loaf").id == second.id
    assert workspace.latest("crumb", "loaf").id == second.id and workspace.latest("loaf", "crumb").id == second.id
    with pytest.raises(ArtifactError, match="no crumb"):
        workspace.latest("crumb", "crust")
    assert [(d, i) for d, i, _ in workspace.lineage(second)] == [(0, second.id), (1, first.id)]
    assert workspace.remove(first.path) > 0
    assert workspace.lineage(second)[1][2] is None


def test_latest_is_a_name(workspace: Workspace) -> None:
    """Of the kind that is asked for; of models where none is. Whatever takes a name takes it."""
    for kind, said in (("loaf", "no loaf in"), (None, "no model in")):
        with pytest.raises(ArtifactError, match=said):
            workspace.find("latest", kind=kind)
        assert workspace.matching("latest", kind=kind) == []
    make(workspace, "a")
    second = make(workspace, "b")
    assert workspace.find("latest", kind="loaf").id == second.id
    assert workspace.matching("latest", kind="loaf") == [second.path] and workspace.matching("latest") == []
    with Run(workspace, StageInputs(stage="m", config={})) as run:
        (run.new_folder() / "f").write_text("m")
        model = run.publish(run.scratch / "output", kind="model")
    assert workspace.find("latest").id == model.id and workspace.find("latest", kind="loaf").id == second.id


def test_remove_stays_inside(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for path in (outside, workspace.root / ".." / "outside", workspace.root):
        with pytest.raises(ArtifactError, match="not in"):
            workspace.remove(path)
    assert outside.is_dir() and as_workspace(workspace) is workspace


def test_unusable_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="cannot use"):
        Workspace(tmp_path / "file")


def test_what_was_set_aside_as_damaged_is_not_found(workspace: Workspace) -> None:
    first = make(workspace, "a")
    (first.path / "f").write_text("b")
    with Run(workspace, StageInputs(stage="s", config={}, seed=1)) as run:
        (run.new_folder() / "f").write_text("a")
        again = run.publish(run.scratch / "output", kind="loaf")
    assert again.id == first.id and len(list(workspace.artifacts.glob("damaged-*"))) == 1
    assert workspace.find(first.id[:4]).path == again.path


@pytest.mark.parametrize("reference", ["/nowhere/model-beef", "../x-beef", "*-beef", "a" * 5000, "a\0b", ""])
def test_nonsense_is_one_error(workspace: Workspace, reference: str) -> None:
    make(workspace, "a")
    with pytest.raises(ArtifactError):
        workspace.find(reference)


def test_a_ledger_that_was_let_go_opens_again(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.close_ledger()  # none is open yet
    first = workspace.ledger
    workspace.close_ledger()
    assert workspace.ledger is not first and workspace.ledger.runs() == []
    workspace.close_ledger()
