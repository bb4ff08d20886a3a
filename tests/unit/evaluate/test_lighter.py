"""What lighter weights cost: numbers that follow from the two models' own logits."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bloomery.core.errors import DataError
from bloomery.engine import load_language_model
from bloomery.evaluate.bits_per_byte import bits_per_byte
from bloomery.evaluate.lighter import LighterConfig, compare_weights, file_bytes, weight_bytes

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]

TEXTS = ["Once upon a time there was a small furnace that smelted iron.", "über Nacht glüht er"] * 3
SMALL = LighterConfig(repeats=2, prompt_tokens=16, new_tokens=6, compared_tokens=100)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_a_model_beside_itself_and_beside_a_lighter_one(tiny_folder: Path):
    plain, same, lighter = (
        load_language_model(tiny_folder, device="cpu", weights=weights) for weights in (None, None, "int4")
    )
    report = compare_weights(plain, same, TEXTS, config=SMALL)
    assert report["top1_agreement"] == 1.0 and report["divergence_nats"] == 0.0 and report["bits_per_byte_loss"] == 0.0
    assert report["compared_tokens"] == 100
    report = compare_weights(plain, lighter, TEXTS, config=SMALL)
    assert report["before"]["bits_per_byte"] == pytest.approx(bits_per_byte(plain, TEXTS).bits_per_byte)
    assert report["after"]["bits_per_byte"] == pytest.approx(bits_per_byte(lighter, TEXTS).bits_per_byte)
    assert report["after"]["packing"]["format"] == "int4" and report["before"]["packing"] is None
    agreed, seen = 0, 0
    for text in TEXTS:
        ids = [plain.tokenizer.separator_id, *plain.tokenizer.encode(text)][: 100 - seen]
        if ids:
            agreed += int((plain.logits(ids).argmax(-1) == lighter.logits(ids).argmax(-1)).sum())
            seen += len(ids)
    assert seen == 100 and report["top1_agreement"] == agreed / seen
    assert report["divergence_nats"] > 0
    for side in ("before", "after"):
        speeds = report[side]
        assert len(speeds["decode_tokens_per_second_runs"]) == len(speeds["prefill_tokens_per_second_runs"]) == 2
        assert speeds["decode_tokens_per_second"] > 0 and speeds["prefill_tokens_per_second"] > 0
        assert set(speeds["decode_joules_per_token"]) == {"low", "central", "high", "method"}
    parameters = sum(p.nbytes for p in plain.decoder.parameters())
    assert report["before"]["weight_bytes"] == weight_bytes(plain.decoder) == parameters
    # The embedding is float, its copy as the head has 8 bits.
    assert report["after"]["weight_bytes"] < parameters
    assert file_bytes(tiny_folder) == (tiny_folder / "model.safetensors").stat().st_size
    for model in (plain, same, lighter):
        model.close()


def test_no_text(tiny_folder: Path):
    model = load_language_model(tiny_folder, device="cpu")
    for texts in ([], [""]):
        with pytest.raises(DataError, match="no text"):
            compare_weights(model, model, texts)
    model.close()
