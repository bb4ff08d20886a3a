"""Parts of tensors go to files, and whole tensors come back, whoever had what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.training.pieces import Piece, Stored, own_share, write_pieces

WHOLE = torch.arange(24.0).reshape(6, 4)


def _piece(rows: slice, columns: slice = slice(0, 4)) -> Piece:
    return Piece(WHOLE[rows, columns], (rows.start, columns.start), (6, 4))


def test_uneven_parts_make_a_whole(tmp_path: Path):
    write_pieces({"w": _piece(slice(0, 4)), "step": torch.tensor(3.0)}, tmp_path / "a")
    write_pieces({"w": _piece(slice(4, 6), slice(0, 1))}, tmp_path / "b")
    write_pieces({"w": _piece(slice(4, 6), slice(1, 4)), "empty": torch.zeros(0, 3)}, tmp_path / "c")
    found = Stored([tmp_path / name for name in "cab"])
    assert set(found) == {"w", "step", "empty"} and len(found) == 3
    assert torch.equal(found["w"], WHOLE)
    assert found["step"].item() == 3 and found["step"].shape == () and found["empty"].shape == (0, 3)
    assert torch.equal(load_file(tmp_path / "a")["w"], WHOLE[:4])  # any reader of safetensors has its part


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_piece(slice(0, 3)), _piece(slice(4, 6))),
        (_piece(slice(0, 5)), _piece(slice(4, 6))),
        (_piece(slice(0, 4)), _piece(slice(3, 5))),  # as many elements as the whole has
        (_piece(slice(0, 3)), _piece(slice(0, 3))),
        (_piece(slice(0, 3)), Piece(WHOLE[3:6], (3, 0), (7, 4))),
        (_piece(slice(0, 3)), Piece(WHOLE[3:6].double(), (3, 0), (6, 4))),
        (_piece(slice(0, 3)), WHOLE),
    ],
    ids=["too little", "too much", "overlap", "twice", "other shapes", "other dtypes", "a whole beside"],
)
def test_what_is_no_whole_is_refused(tmp_path: Path, one: Piece, other: Piece | torch.Tensor):
    write_pieces({"w": one}, tmp_path / "a")
    write_pieces({"w": other}, tmp_path / "b")
    with pytest.raises(ValueError, match="the parts of w do not make a whole"):
        Stored([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("place", [[[5, 0], [6, 4]], [[-1, 0], [6, 4]], [[0], [6]], [[0, 0], [1, 4]]])
def test_a_place_outside_is_refused(tmp_path: Path, place: list[list[int]]):
    save_file({"w": WHOLE[:2].contiguous()}, tmp_path / "a", metadata={"pieces": json.dumps({"w": place})})
    with pytest.raises(ValueError, match="the part of w lies outside of the whole"):
        Stored([tmp_path / "a"])


@pytest.mark.parametrize(
    "said", ["[]", '{"w": 1}', '{"w": [1, 2]}', '{"w": [[0, 0], ["6", 4]]}', '{"w": [[0.0, 0], [6, 4]]}']
)
def test_places_that_are_none_are_refused(tmp_path: Path, said: str):
    save_file({"w": WHOLE[:2].contiguous()}, tmp_path / "a", metadata={"pieces": said})
    with pytest.raises(ValueError, match="belong"):
        Stored([tmp_path / "a"])


def test_what_was_removed_or_is_no_file_of_tensors(tmp_path: Path):
    write_pieces({"w": WHOLE}, tmp_path / "a")
    found = Stored([tmp_path / "a"])
    (tmp_path / "a").unlink()
    assert torch.equal(found["w"], WHOLE)
    (tmp_path / "b").write_bytes(b"no tensors at all")
    with pytest.raises(ValueError, match=r"^b: "):
        Stored([tmp_path / "b"])


def test_each_part_is_written_once():
    having = [
        {"norm": torch.ones(2), "w": _piece(slice(0, 3))},
        {"norm": torch.ones(2), "w": _piece(slice(3, 6)), "muon.w": torch.ones(1)},
        {"norm": torch.ones(2), "w": _piece(slice(3, 6))},
    ]
    told: list[list[str]] = []
    for rank in (0, 1, 2):
        own_share(having[rank], 0, lambda keys: [told.append(keys) or keys])
    shares = [set(own_share(having[rank], rank, lambda keys: told)) for rank in (0, 1, 2)]
    assert shares == [{"norm", "w"}, {"w", "muon.w"}, set()]
