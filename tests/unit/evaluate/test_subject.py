"""Subjects: a model by folder, artifact or in memory, with answers kept under what its weights are."""

from __future__ import annotations

import runpy
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.errors import BloomeryError, ConfigError, RequestError
from bloomery.core.likelihood import Pair
from bloomery.core.messages import ChatOptions
from bloomery.engine import load_language_model
from bloomery.engine.likelihoods import EngineLikelihoods
from bloomery.evaluate import open_subject


def test_the_same_weights_share_their_answers(made: Any, tmp_path: Path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    named = open_subject(made.model.name, workspace=made.workspace)
    loaded = open_subject(made.loaded, workspace=made.workspace)
    assert named.parents == (made.model.id,) and loaded.parents == ()
    assert named.identity.partition("#")[2] == loaded.identity.partition("#")[2]
    bare = open_subject(made.loaded, workspace=made.workspace, bos=False)
    assert bare.identity != loaded.identity
    pairs = [Pair("if code", " value")]
    first, again = (list(loaded.kept(cache).likelihoods.likelihoods(pairs)) for _ in range(2))  # type: ignore[union-attr]
    assert not first[0][1].cached and again[0][1].cached and again[0][1].nats == first[0][1].nats
    cache.close()


def test_free_answers_go_on_from_the_prompt_or_through_the_template(made: Any):
    options = ChatOptions(temperature=0.0, max_new_tokens=5)
    asked = [{"role": "user", "content": "if code"}]
    plain = open_subject(made.loaded, workspace=made.workspace).subject.chat
    assert plain is not None
    assert plain.answer(asked, options).text == made.loaded.generate("if code", max_new_tokens=5, temperature=0.0).text
    templated = open_subject(made.loaded, workspace=made.workspace, chat=True).subject.chat
    assert templated is not None
    if made.loaded.tokenizer.chat_template is None:
        with pytest.raises(RequestError):
            templated.answer(asked, options)


make_tiny_adapter = runpy.run_path(str(Path(__file__).parents[2] / "tiny_adapter.py"))["make_tiny_adapter"]


def test_an_adapter_is_computed_on_its_base(made: Any, tmp_path: Path):
    """As W + B A (Hu et al., arXiv 2106.09685; alpha is the rank here) in NumPy: to 1e-4 nats over a few tokens, for
    sums in float32 in another order."""
    from safetensors.numpy import load_file, save_file

    base = made.model.path
    folder = make_tiny_adapter(tmp_path / "tuned", base, base_model_name_or_path=str(base))
    weights, low = (load_file(one) for one in (base / "model.safetensors", folder / "adapter_model.safetensors"))
    for name in [name for name in low if ".lora_A." in name]:
        changed = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
        weights[changed] = weights[changed] + low[name.replace("lora_A", "lora_B")] @ low[name]
    shutil.copytree(base, tmp_path / "merged", ignore=shutil.ignore_patterns("manifest.json"))
    save_file(weights, tmp_path / "merged" / "model.safetensors")
    pairs = [Pair("if code", " value return"), Pair("loop", " none if else")]
    merged = dict(EngineLikelihoods(load_language_model(tmp_path / "merged")).likelihoods(pairs))
    wanted = [merged[n].nats for n in range(2)]
    named = open_subject(folder, workspace=made.workspace)
    beside = open_subject(made.model.name, adapter=folder, workspace=made.workspace)
    for opened in (named, beside):
        found = dict(opened.subject.likelihoods.likelihoods(pairs))  # type: ignore[union-attr]
        assert [found[n].nats for n in range(2)] == pytest.approx(wanted, abs=1e-4)
        assert opened.subject.name == "tuned"
    assert beside.parents == (made.model.id,) and beside.identity == named.identity
    plain = open_subject(made.loaded, workspace=made.workspace)
    assert plain.identity != named.identity
    assert dict(plain.subject.likelihoods.likelihoods(pairs))[0].nats != pytest.approx(wanted[0], abs=1e-2)  # type: ignore[union-attr]


def test_an_adapter_without_its_base(made: Any, tmp_path: Path):
    silent = make_tiny_adapter(tmp_path / "silent", made.model.path)
    gone = make_tiny_adapter(tmp_path / "gone", made.model.path, base_model_name_or_path="model-0123456789ab")
    for folder in (silent, gone):
        with pytest.raises(BloomeryError) as caught:
            open_subject(folder, workspace=made.workspace)
        assert "--adapter" in caught.value.hint and "\n" not in caught.value.one_line()
    with pytest.raises(ConfigError, match="is no adapter"):
        open_subject(made.model.name, adapter=made.model.path, workspace=made.workspace)
    with pytest.raises(ConfigError, match="loaded already"):
        open_subject(made.loaded, adapter=silent, workspace=made.workspace)
    with pytest.raises(ConfigError, match="server"):
        open_subject("http://127.0.0.1:9/v1#m", adapter=silent, workspace=made.workspace)


def test_a_server_that_is_not_there_is_told_at_once(made: Any):
    began = time.monotonic()
    with pytest.raises(RequestError, match="no server at") as caught:
        open_subject("http://127.0.0.1:9/v1#m", workspace=made.workspace)
    assert "is the server there" in caught.value.hint and time.monotonic() - began < 5


def test_what_is_no_model(made: Any, tmp_path: Path):
    with pytest.raises(BloomeryError):
        open_subject("nowhere", workspace=made.workspace)
    with pytest.raises(ConfigError):
        open_subject("http:///v1", workspace=made.workspace)
    with pytest.raises(BloomeryError, match="no adapter in"):
        open_subject(made.model, adapter="latest", workspace=made.workspace)
