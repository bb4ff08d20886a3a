"""VisionLanguageModel against transformers' LlavaProcessor and greedy decoding; what a prompt may spell; text alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend

from bloomery.core.errors import BloomeryError, DataError, RequestError
from bloomery.engine import LanguageModel, VisionLanguageModel, load, load_language_model

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}assistant:"
)


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLaVA on a tokenizer trained here, to which <image> was added, as transformers writes it."""
    import transformers

    folder = tmp_path_factory.mktemp("llava")
    backend = Backend.from_file(str(tiny_folder / "tokenizer.json"))
    backend.add_special_tokens(["<image>"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_bytes((tiny_folder / "tokenizer_config.json").read_bytes())
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    number = backend.token_to_id("<image>")
    text = {**SIZES, "model_type": "llama", "vocab_size": number + 3, "max_position_embeddings": 700}
    text |= {"initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": None}
    vision = {**SIZES, "model_type": "clip_vision_model", "image_size": 16, "patch_size": 4}
    config = transformers.LlavaConfig(text_config=text, vision_config=vision, image_token_index=number)
    torch.manual_seed(0)
    model = transformers.LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn_like(parameter) * (0.5 if "projector" in name else 0.1))
    model.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> VisionLanguageModel:
    model = load(folder, device="cpu")
    assert isinstance(model, VisionLanguageModel) and isinstance(model, LanguageModel)
    return model


def _theirs(folder: Path) -> tuple[Any, Any]:
    import transformers

    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil.from_pretrained(folder),
        transformers.AutoTokenizer.from_pretrained(folder),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return processor, transformers.LlavaForConditionalGeneration.from_pretrained(folder).eval()


@pytest.mark.parametrize("prompt", ["user: <image>\nWhat is it? assistant:", "<image>", "Two: <image> and <image>."])
def test_the_same_ids_and_the_same_text(prompt: str, folder: Path, model: VisionLanguageModel):
    processor, theirs = _theirs(folder)
    images = [IMAGE, IMAGE[::-1].copy()][: prompt.count("<image>")]
    inputs = processor(images=images, text=prompt, return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    assert model.encode_with_images(prompt, len(images)) == ids
    with torch.inference_mode():
        out = theirs.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, len(ids) :].tolist()
    got = model.generate(prompt, image=images, max_new_tokens=12, temperature=0.0, ignore_eos=True)
    assert got.token_ids == out and got.prompt_token_ids == ids
    assert got.text == model.tokenizer.decode(out, skip_special=True)


def test_the_image_is_seen(model: VisionLanguageModel):
    def logprobs(image: np.ndarray) -> list[float]:
        return model.generate("<image> iron", image=image, max_new_tokens=4, temperature=0.0).logprobs

    assert logprobs(IMAGE) == logprobs(IMAGE)
    assert logprobs(IMAGE) != logprobs(np.zeros_like(IMAGE))


def test_a_prompt_longer_than_one_chunk_of_prefill(model: VisionLanguageModel):
    """Images that stand across the border of two chunks; scored, so that every position counts."""
    before = model.tokenizer.encode("ore ") * 250
    special = model.model.config.image_token_id
    prompt = [*before[:500], special, *before[:20], special]
    got = model.generate(prompt, image=[IMAGE, IMAGE[:, ::-1]], max_new_tokens=1, temperature=0.0, prompt_logprobs=0)
    ids = model.encode_with_images(prompt, 2)
    with torch.inference_mode():
        logits = model.model(torch.tensor([ids]), model.processor([IMAGE, IMAGE[:, ::-1]]))[0].log_softmax(-1)
    assert got.prompt_logprobs is not None and len(got.prompt_logprobs) == len(ids) == 552
    scored = [one.logprob for one in got.prompt_logprobs if one is not None]
    assert np.abs(np.array(scored) - logits[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()).max() < 1e-3


def test_where_images_stand(model: VisionLanguageModel):
    special, count = model.model.config.image_token_id, model.model.config.num_image_tokens
    assert count == 16
    bos = [model.tokenizer.bos_id] if model.tokenizer.adds_bos else []
    assert model.encode_with_images("iron", 1)[: count + len(bos)] == bos + [special] * count
    assert model.encode_with_images([5, special, 6], 1) == [5] + [special] * count + [6]
    assert model.encode_with_images([5] + [special] * count, 1) == [5] + [special] * count
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is <image>?"}]}]
    ids = model.encode_with_images(chat, 1)
    assert ids.count(special) == count  # what the message spells is text
    for prompt, images in (("<image><image>", 1), ("<image>", 2), ([5], 1), (chat, 2)):
        with pytest.raises(RequestError, match="place"):
            model.encode_with_images(prompt, images)
    with pytest.raises(RequestError, match="context"):
        model.encode_with_images("<image>" + "ore " * 700, 1)


def test_other_special_tokens_in_a_prompt_are_text(model: VisionLanguageModel):
    other = next(i for i in sorted(model.tokenizer.special_ids) if i != model.model.config.image_token_id)
    prompt = f"{model.tokenizer.token_text(other)} <image> {model.tokenizer.token_text(other)}"
    ids = model.encode_with_images(prompt, 1)
    assert ids.count(model.model.config.image_token_id) == 16
    assert other not in ids[1:]


def test_text_alone_and_what_is_refused(model: VisionLanguageModel, folder: Path):
    with torch.inference_mode():
        ids = model.encode_prompt("the furnace")
        expected = int(_theirs(folder)[1](input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    assert model.generate("the furnace", max_new_tokens=1, temperature=0.0).token_ids == [expected]
    assert isinstance(load_language_model(folder, device="cpu"), VisionLanguageModel)
    with pytest.raises(DataError):
        model.stream("<image>", image=b"nothing")  # at once, before the first delta is asked for
    with pytest.raises(BloomeryError):
        model.generate("<image>", image=[])
    assert next(model.stream("a", image=IMAGE, max_new_tokens=0)).finish_reason == "length"


def test_a_place_without_a_picture_is_refused(model: VisionLanguageModel):
    for ask in (
        lambda: model.generate("<image>"),
        lambda: model.samples("a <image> b", 2),
        lambda: model.beam_search("<image>"),
        lambda: model.encode_prompt("<image>"),
    ):
        with pytest.raises(RequestError, match="has a place for an image, none is given"):
            ask()
    with pytest.raises(RequestError, match="has places for 2 images, 1 is given"):
        model.generate("<image><image>", image=IMAGE)
    chat = [{"role": "user", "content": [{"type": "text", "text": "What is <image>?"}]}]
    assert model.generate(chat, max_new_tokens=1).completion_tokens == 1  # what a message spells is text


def test_without_an_image_token_in_the_vocabulary(model: VisionLanguageModel, tiny):
    """The model has a row for it, the tokenizer does not: it can still be written."""
    plain = VisionLanguageModel(model.model, tiny.tokenizer, model.processor, name="plain")
    ids = plain.encode_with_images("ore <image> iron", 1)
    assert ids.count(model.model.config.image_token_id) == 16
    assert plain.generate("ore <image> iron", image=IMAGE, max_new_tokens=2, temperature=0.0).completion_tokens == 2


def test_pictures_are_found_again_by_their_content(folder: Path, model: VisionLanguageModel):
    """A second question about a picture does not encode or read it again; another picture finds nothing."""
    one = load(folder, device="cpu")
    assert isinstance(one, VisionLanguageModel)
    options = {"max_new_tokens": 3, "temperature": 0.0, "logprobs": 0}
    prompt, other = "a <image> and what?" + "?" * 20, np.ascontiguousarray(IMAGE[::-1])
    expected = [model.generate(prompt, image=image, **options) for image in (IMAGE, other)]
    first, third = one.generate(prompt, image=IMAGE, **options), one.generate(prompt, image=other, **options)
    assert first.timings.cached_tokens == third.timings.cached_tokens == 0
    second, fourth = one.generate(prompt, image=IMAGE, **options), one.generate(prompt, image=other, **options)
    places = one.encode_with_images(prompt, 1).index(one.model.config.image_token_id) + 16
    assert second.timings.cached_tokens == fourth.timings.cached_tokens > places
    for got, due in zip((first, third, second, fourth), expected * 2, strict=True):
        assert got.token_ids == due.token_ids and got.logprobs == pytest.approx(due.logprobs, abs=1e-4)
    assert first.timings.encode_seconds > 0 and second.timings.encode_seconds == 0.0
    assert first.encode_energy.central is None or first.encode_energy.central >= 0
    text = one.generate(one.encode_with_images(prompt, 1), max_new_tokens=1)  # the same ids, without a picture
    assert text.timings.cached_tokens == 0


def test_pictures_in_a_mixed_batch(model: VisionLanguageModel):
    """Requests with pictures and without in the same steps, two questions about one picture among them."""
    other = np.ascontiguousarray(IMAGE[:, ::-1])
    asked = [("<image> iron", IMAGE), ("the furnace", None), ("<image> iron", other), ("see <image>", IMAGE)]
    options: dict[str, Any] = {"max_new_tokens": 8, "temperature": 0.0, "ignore_eos": True}
    alone = [model.generate(prompt, image=image, **options).token_ids for prompt, image in asked]
    requests = []
    for prompt, image in asked:
        if image is None:
            requests.append(model.request(model.encode_prompt(prompt), [options]))  # type: ignore[list-item]
            continue
        ids = model.encode_with_images(prompt, 1)
        requests.append(model.request(ids, [options], **model.illustrated(ids, model.processor([image]))))  # type: ignore[list-item]
    found = {n: delta.result for n, delta in model.engine.run_all(requests) if delta.result is not None}
    assert [found[n].token_ids for n in range(len(asked))] == alone
