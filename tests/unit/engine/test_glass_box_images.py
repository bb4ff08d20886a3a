"""SeeingGlassBox: attention over patches is transformers' own; what a model does not do is one line."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.engine.glass_box_open import open_glass_box
from bloomery.engine.loading import load
from bloomery.models.image_processor import ImageProcessor

models = runpy.run_path(str(Path(__file__).parents[2] / "gguf_models.py"))
PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
TOWER: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}


def _weights(view: Any) -> torch.Tensor:
    row = torch.tensor([key.weight for key in view.keys])
    assert abs(float(row.sum()) - 1) < 1e-5 and view.max_difference < 1e-4
    return row


def _saved(folder: Path, model: Any, kind: str) -> Path:
    model.save_pretrained(folder)
    square = {"height": 28, "width": 28}
    values = {"image_processor_type": f"{kind}ImageProcessor", "size": square, "crop_size": square}
    ImageProcessor.from_hf(values).to_folder(folder)
    return folder


def test_vit(tmp_path: Path):
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    folder = _saved(tmp_path / "vit", ViTModel(ViTConfig(**TOWER)), "ViT")
    box = open_glass_box(folder, device="cpu")
    theirs = ViTModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.inference_mode():
        expected = theirs(ImageProcessor.from_folder(folder)(PIXELS), output_attentions=True).attentions
    view = box.attention("", image=PIXELS, layer=1, head=2, query=5)
    assert (view.stack, view.query.text, view.keys[0].text, view.keys[-1].text) == (
        "layers.self_attn",
        "1,0",
        "[class]",
        "3,3",
    )
    torch.testing.assert_close(_weights(view), expected[1][0, 2, 5], atol=1e-5, rtol=1e-4)
    for call, said in (
        (lambda: box.attention("How are you?"), "--image"),
        (lambda: box.attention("", image=PIXELS, layer=2), "no layer 2"),
        (lambda: box.attention("", image=PIXELS, head=9), "no head 9"),
        (lambda: box.attention("", image=PIXELS, target="x"), "no target"),
        (lambda: box.tokens("How"), "attention alone"),
        (lambda: box.lens("How"), "attention alone"),
        (lambda: box.neighbours(3), "attention alone"),
    ):
        with pytest.raises(RequestError) as caught:
            call()
        assert said in caught.value.one_line() and "\n" not in caught.value.one_line()


def test_llava(tmp_path: Path):
    from transformers import LlavaForConditionalGeneration

    folder = models["random_llava"](tmp_path / "llava", **models["SEES"]["clip"])
    box, ours = open_glass_box(folder, device="cpu"), load(folder, device="cpu")
    theirs = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ids = ours.encode_with_images("a furnace <image>\nWhat is it?", 1)  # type: ignore[union-attr]
    pixels = ImageProcessor.from_folder(folder)(PIXELS)
    with torch.inference_mode():
        out = theirs.eval()(torch.tensor([ids]), pixel_values=pixels, output_attentions=True)
        seen = theirs.model.vision_tower(pixels, output_attentions=True).attentions
    view = box.attention("a furnace <image>\nWhat is it?", image=PIXELS, layer=2, head=1)
    torch.testing.assert_close(_weights(view), out.attentions[2][0, 1, -1], atol=1e-5, rtol=1e-4)
    assert sum("," in key.text and key.text[0].isdigit() for key in view.keys) == 16
    view = box.attention("", image=PIXELS, cross=True, layer=0, head=3, query=0)
    assert view.stack == "vision_tower.layers.self_attn" and view.query.text == "[class]"
    torch.testing.assert_close(_weights(view), seen[0][0, 3, 0], atol=1e-5, rtol=1e-4)
    # Without a picture it is a decoder like any other.
    assert box.attention("How are you?").stack == "model.layers.self_attn" and box.tokens("How").places
    with pytest.raises(RequestError, match="looks at a picture"):
        box.attention("How", cross=True)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_clip_and_siglip(family: str, tmp_path: Path):
    import transformers
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

    text = {k: v for k, v in TOWER.items() if "size" not in k or k in ("hidden_size", "intermediate_size")}
    backend = learn(["a small furnace, how are you?"] * 4, TokenizerConfig(vocab_size=280, encloses=True))
    last = backend.token_to_id("<|endoftext|>")
    text |= {"vocab_size": 300, "max_position_embeddings": 16, "bos_token_id": last, "eos_token_id": last}
    torch.manual_seed(0)
    if family == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=TOWER, projection_dim=16))
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=TOWER))
    folder = _saved(tmp_path / family, model, "CLIP" if family == "clip" else "Siglip")
    write_tokenizer(backend, folder)
    box = open_glass_box(folder, device="cpu")
    theirs = getattr(transformers, type(model).__name__).from_pretrained(folder, attn_implementation="eager").eval()
    pixels = ImageProcessor.from_folder(folder)(PIXELS)
    view = box.attention("a furnace", layer=1, head=1, query=2)
    ids = torch.tensor([[token.token_id for token in view.queries]])
    with torch.inference_mode():
        seen = theirs.vision_model(pixels, output_attentions=True).attentions
        read = theirs.text_model(ids, output_attentions=True).attentions
    assert view.stack == "text_model.layers.self_attn"
    torch.testing.assert_close(_weights(view), read[1][0, 1, 2], atol=1e-5, rtol=1e-4)
    view = box.attention("", image=PIXELS, layer=0, head=1, query=3)
    assert view.stack == "vision_model.layers.self_attn"
    torch.testing.assert_close(_weights(view), seen[0][0, 1, 3], atol=1e-5, rtol=1e-4)
