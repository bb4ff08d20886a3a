"""Quick starts: the engine's own texts, from what an earlier process kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import RequestError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, load_language_model
from bloomery.engine import images as folder_of_images
from bloomery.engine.engine import EngineConfig
from bloomery.engine.images import wanted
from bloomery.engine.quick_start import QuickModel, keep, quick_model

pytestmark = pytest.mark.usefixtures("own_images")


@pytest.fixture
def model(folder: Path) -> Iterator[LanguageModel]:
    """With native steps, which a trial may find too slow for so small a one."""
    loaded = load_language_model(folder, device="cpu")
    loaded.set_engine(EngineConfig(native="on"))
    yield loaded
    loaded.close()


def found(folder: Path, home: Workspace, weights: str | None = None) -> QuickModel | None:
    asked = wanted(str(folder), home, weights)
    return None if asked is None else quick_model(asked)


def keep_it(model: LanguageModel, folder: Path, home: Workspace, weights: str | None = None) -> int | None:
    asked = wanted(str(folder), home, weights)
    return None if asked is None else keep(model, asked, asked)


@pytest.fixture
def kept(model: LanguageModel, folder: Path, home: Workspace) -> QuickModel:
    assert found(folder, home) is None
    assert keep_it(model, folder, home)
    made = found(folder, home)
    assert made is not None
    return made


def images() -> list[Path]:
    return sorted(Path(os.environ["XDG_CACHE_HOME"]).glob("bloomery/images/*"))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "stop": ["e"]},
        {"temperature": 0.9, "seed": 5},
        {"temperature": 1.3, "seed": 6, "top_k": 30, "top_p": 0.9, "min_p": 0.01},
        {"temperature": 3.0, "seed": 7},
    ],
)
@pytest.mark.parametrize("prompt", ["O", "Once upon a time", "🔥 and more of it"])
def test_texts_are_the_engines(kept: QuickModel, model: LanguageModel, prompt: str, options: dict[str, Any]):
    expected = model.generate(prompt, max_new_tokens=40, **options)
    deltas = list(kept.stream(prompt, {"max_new_tokens": 40, **options}) or ())
    result = deltas[-1].result
    assert result is not None
    assert result.token_ids == expected.token_ids and result.text == expected.text == "".join(d.text for d in deltas)
    assert (result.finish_reason, result.seed) == (expected.finish_reason, result.seed)
    # The engine's first comes of a softmax in float32.
    assert result.logprobs == pytest.approx(expected.logprobs, abs=2e-6)
    assert result.prompt_token_ids == expected.prompt_token_ids
    assert result.timings.steps == expected.timings.steps and result.timings.prefill_seconds > 0


@pytest.mark.parametrize("weights", ["float16", "int8", "int4"])
def test_packed_weights_have_an_image_of_their_own(folder: Path, home: Workspace, weights: str):
    packed = load_language_model(folder, device="cpu", weights=weights)
    packed.set_engine(EngineConfig(native="on"))
    assert keep_it(packed, folder, home, weights)
    assert found(folder, home) is None
    quick = found(folder, home, weights)
    assert quick is not None
    expected = packed.generate("Once", max_new_tokens=20, temperature=0.0)
    *_, last = quick.stream("Once", {"max_new_tokens": 20, "temperature": 0.0}) or ()
    assert last.result is not None and last.result.token_ids == expected.token_ids
    packed.close()


@pytest.mark.parametrize(
    "options", [{"max_new_tokens": 0}, {"max_new_tokens": 100_000}, {"logprobs": 1}, {"repetition_penalty": 1.2}]
)
def test_other_requests_go_the_usual_way(kept: QuickModel, options: dict[str, Any]):
    assert kept.stream("Once", options) is None


def test_an_empty_prompt_is_what_it_is_to_the_engine(kept: QuickModel, model: LanguageModel):
    assert kept.tokenizer.adds_bos  # one token, so
    options: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 9}
    *_, last = kept.stream("", options) or ()
    assert last.result is not None and last.result.token_ids == model.generate("", **options).token_ids


def test_options_are_checked_alike(kept: QuickModel):
    with pytest.raises(RequestError, match="temperature"):
        kept.stream("Once", {"temperature": -1.0})


def test_a_changed_file_is_another_model(kept: QuickModel, folder: Path, home: Workspace):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes())  # the same, as far as anybody knows
    assert found(folder, home) is None


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"])
def test_so_are_other_settings(kept: QuickModel, folder: Path, home: Workspace, name: str, monkeypatch: Any):
    monkeypatch.setenv(name, "7")
    assert found(folder, home) is None


def test_it_can_be_turned_off(model: LanguageModel, folder: Path, home: Workspace, monkeypatch: pytest.MonkeyPatch):
    assert keep_it(model, folder, home)
    monkeypatch.setenv("BLOOMERY_IMAGES", "off")
    assert found(folder, home) is None
    for path in images():
        path.unlink()
    assert keep_it(model, folder, home) is None and not images()


def test_pytorchs_steps_are_not_kept(folder: Path, home: Workspace):
    plain = load_language_model(folder, device="cpu")
    plain.set_engine(EngineConfig(native="off"))
    assert keep_it(plain, folder, home) is None and not images()
    plain.close()


def test_a_damaged_image_goes_the_usual_way(kept: QuickModel, folder: Path, home: Workspace):
    (path,) = images()
    path.write_bytes(path.read_bytes()[:-1])
    assert found(folder, home) is None


def test_a_folder_that_cannot_be_made_costs_nothing(model: LanguageModel, folder: Path, home: Workspace):
    Path(os.environ["XDG_CACHE_HOME"]).write_text("a file")
    assert keep_it(model, folder, home) is None
    assert found(folder, home) is None


@pytest.mark.parametrize(("name", "most"), [("MAX_BYTES", 1000), ("_FREE_SHARE", 1 << 50)])
def test_large_ones_and_full_disks_get_none(
    model: LanguageModel, folder: Path, home: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, most: int
):
    monkeypatch.setattr(folder_of_images, name, most)
    assert keep_it(model, folder, home) is None and not images()


def test_one_that_is_there_is_not_written_again(kept: QuickModel, model: LanguageModel, folder: Path, home: Workspace):
    (path,) = images()
    before = path.stat()
    assert keep_it(model, folder, home) is None and path.stat().st_ino == before.st_ino
    path.write_bytes(path.read_bytes()[:-1])
    assert keep_it(model, folder, home) == before.st_size and found(folder, home) is not None


def test_files_that_changed_while_it_answered_are_another_model(model: LanguageModel, folder: Path, home: Workspace):
    before = wanted(str(folder), home, None)
    assert before is not None
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    after = wanted(str(folder), home, None)
    assert after != before
    assert keep(model, before, after) is None and keep(model, before, None) is None and not images()


def test_how_much_will_be_written_is_told_before(model: LanguageModel, folder: Path, home: Workspace):
    told: list[tuple[int, int]] = []
    asked = wanted(str(folder), home, None)
    assert asked is not None
    size = keep(model, asked, asked, lambda size: told.append((size, len(images()))))
    assert size is not None and len(told) == 1 and told[0][1] == 0 and abs(told[0][0] - size) < 100_000


def test_narrow_keys_are_not_kept(folder: Path, home: Workspace):
    narrow = load_language_model(folder, device="cpu")
    narrow.set_engine(EngineConfig(native="on", cache_dtype="int8"))
    assert keep_it(narrow, folder, home) is None and not images()
    narrow.close()


def test_pytorch_is_not_needed(kept: QuickModel, folder: Path, home: Workspace):
    code = f"""
import sys
from bloomery.core.workspace import Workspace
from bloomery.engine.images import wanted
from bloomery.engine.quick_start import quick_model
found = quick_model(wanted({str(folder)!r}, Workspace({str(home.root)!r}), None))
*_, last = found.stream("Once", {{"max_new_tokens": 3}})
assert len(last.result.token_ids) == 3 and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
