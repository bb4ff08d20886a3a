"""Verdicts: a trial that was won is not made again by the next process; anything else that differs makes one."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.models import Decoder, ModelConfig
from bloomery.models.native import trial as module
from bloomery.models.native import verdicts
from bloomery.models.native.trial import try_native
from bloomery.models.native.verdicts import is_known, key_of, make_known, remember, remembered
from bloomery.models.packing import pack

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}
WON: dict[str, Any] = {"speedup": {1: 4.0, 8: 1.0}, "error": 1e-6, "prompt_speedup": 1.5}


def decoder(seed: int = 0, **changes: Any) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(ModelConfig(**{**SIZES, **changes})).eval().requires_grad_(False)


def test_there_and_back(tmp_path: Path) -> None:
    assert remembered("a") is None
    remember("a", **WON)
    found = remembered("a")
    assert found is not None and {name: found[name] for name in WON} == WON
    assert remembered("b") is None
    assert (tmp_path / "cache" / "bloomery" / "native_trials.json").is_file()


@pytest.mark.parametrize("lost", [{"speedup": {1: 0.5, 8: 1.5}}, {"prompt_speedup": 0.9}])
def test_what_may_have_been_a_busy_moment_is_not_kept(lost: dict) -> None:
    remember("a", **{**WON, **lost})
    assert remembered("a") is None


def test_the_last_are_kept_and_old_ones_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_MOST", 3)
    for name in "abcad":
        remember(name, **WON)
    assert [remembered(name) is not None for name in "abcd"] == [True, False, True, True]
    now = verdicts.time.time()
    monkeypatch.setattr(verdicts.time, "time", lambda: now + 31 * 86400)
    assert remembered("a") is None
    monkeypatch.setattr(verdicts.time, "time", lambda: now - 3600)  # a clock that was set back
    assert remembered("a") is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"a": 3}',
        '{"a": {"speedup": {"1": "x"}, "error": 0, "prompt_speedup": 2, "at": 0}}',
        '{"a": {"speedup": {"one": 2}, "error": 0, "prompt_speedup": 2, "at": 0}}',
        '{"a": {"speedup": {"1": 2}, "error": NaN, "prompt_speedup": 2, "at": 1e12}}',
        *(
            f'{{"a": {{"speedup": {speedup}, "error": {error}, "prompt_speedup": {prompt}, "at": {at}}}}}'
            for speedup, error, prompt, at in (
                ("{}", "0", "2", "1"),
                ('{"1": 0}', "0", "2", "1"),
                ('{"1": -1}', "0", "2", "1"),
                ('{"\u00b2": 2}', "0", "2", "1"),
                ('{"1": true}', "0", "2", "1"),
                ('{"1": 2}', "9" * 400, "2", "1"),
                ('{"1": 2}', "0", "Infinity", "1"),
                ('{"1": 2}', "0", "2", "9" * 400),
            )
        ),
        "\x00",
    ],
)
def test_a_damaged_file_is_no_verdict(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cache" / "bloomery" / "native_trials.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert remembered("a") is None
    remember("a", **WON)
    assert remembered("a") is not None and list(json.loads(file.read_text())) == ["a"]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember("a", **WON)
    assert remembered("a") is None


def test_nobodys_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(verdicts.Path, "home", nobody)
    remember("a", **WON)
    assert remembered("a") is None


def test_keys_differ_where_a_verdict_may(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = decoder()
    pack(packed, "float16")
    keys = [key_of(one) for one in (decoder(), decoder(1), decoder(num_hidden_layers=1), packed)]
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    keys.append(key_of(decoder()))
    monkeypatch.undo()
    assert len(set(keys)) == 5 and key_of(decoder()) == keys[0]


def test_a_trial_that_was_won_is_not_made_again(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = module.check
    monkeypatch.setattr(module, "check", lambda native: (made.append("check"), real(native))[1])
    monkeypatch.setattr(module, "measure", lambda native: (made.append("measure"), {1: 4.0, 8: 1.0})[1])
    monkeypatch.setattr(module, "measure_prompt", lambda native: 1.5)
    first = try_native(decoder())
    assert made == ["check", "measure"] and first.native is not None
    again = try_native(decoder())
    assert made == ["check", "measure"] and again.native is not None and again.prompts
    assert again.text == f"{first.text}; tried before" and again.speedup == first.speedup
    try_native(decoder(1))
    assert made == ["check", "measure"] * 2
    try_native(decoder(), timed=False)  # asked for: it is compared each time
    assert made == ["check", "measure"] * 2 + ["check"]


def test_a_fact_holds_for_a_month_here_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_known("sound", "int8", 64)
    make_known("sound", "int8", 64)
    assert is_known("sound", "int8", 64)
    verdicts._seen.clear()  # as in another process
    assert is_known("sound", "int8", 64) and not is_known("sound", "int8", 65)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(verdicts, "processor", lambda: "another")
        assert not is_known("sound", "int8", 64)
    now = verdicts.time.time()
    monkeypatch.setattr(verdicts.time, "time", lambda: now + 31 * 86400)
    assert not is_known("sound", "int8", 64)


@pytest.mark.parametrize("wrong", ["true", "-1", "1e300", "[]", '"1"'])
def test_a_damaged_fact_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "facts"))
    make_known("sound")
    file = tmp_path / "facts" / "bloomery" / "native_facts.json"
    file.write_text("{" + f"{json.dumps(next(iter(json.loads(file.read_text()))))}: {wrong}" + "}")
    verdicts._seen.clear()  # as in another process
    assert not is_known("sound")
    make_known("sound")
    assert is_known("sound")
