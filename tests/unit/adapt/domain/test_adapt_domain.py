"""Domain adaptation as a stage: the domain gets better, the report is of the same documents, a killed run goes on."""

from __future__ import annotations

import json

import pytest

from bloomery.adapt.domain import DomainConfig, adapt_domain
from bloomery.adapt.domain.adapt_domain import sample_texts
from bloomery.adapt.domain.config import DomainFitConfig
from bloomery.core.errors import ConfigError
from bloomery.corpus import CurateConfig, curate

FIT = DomainFitConfig(steps=12, batch_rows=8, learning_rate=1e-2, device="cpu", validations=1)
CONFIG = DomainConfig(replay=0.25, context_length=32, report_documents=10, resamples=100, fit=FIT)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict:
    folder, made = tmp_path_factory.mktemp("domain"), {}
    for name in ("iron", "time", "other"):
        text = "\n\n".join(f"{name} number {n} was there, and {name} it is." for n in range(150))
        (folder / f"{name}.txt").write_text(text)
        config = CurateConfig(
            sources=(str(folder / f"{name}.txt"),), cut_characters=150, decontaminate_words=0, test_fraction=0.2
        )
        made[name] = curate(config=config, workspace=folder / "home")
    return made


def test_the_domain_gets_better_and_what_is_forgotten_is_said(make_model, corpora, tmp_path, interrupted):
    def run(home):
        return adapt_domain(
            make_model(),
            corpora["iron"],
            general=corpora["time"],
            controls={"other": corpora["other"]},
            config=CONFIG,
            workspace=tmp_path / home,
        )

    made = run("a")
    changes = made.metrics["forgetting"]
    assert [one["kind"] for one in changes] == ["in-domain", "out-of-domain", "other"]
    assert changes[0]["high"] < 0 and changes[0]["documents"] >= 3
    assert (made.metrics["domain_rows"], made.metrics["general_rows"]) == (72, 24)
    report = json.loads((made.path / "forgetting.json").read_text())
    assert report["changes"] == changes and len(report["bits"]["other"]) == 10
    interrupted(lambda: run("b"), 5)
    resumed = run("b")
    assert resumed.metrics["resumed"] and resumed.metrics["forgetting"] == changes
    assert (resumed.path / "model.safetensors").read_bytes() == (made.path / "model.safetensors").read_bytes()


def test_what_is_trained_on_is_not_measured(corpora):
    held = sample_texts(corpora["iron"], 1000, 0, held_out=True)
    everything = sample_texts(corpora["iron"], 1000, 0, held_out=False)
    assert len(held) < len(everything) and set(held) < set(everything)
    assert sample_texts(corpora["iron"], 3, 5, held_out=True) == sample_texts(corpora["iron"], 3, 5, held_out=True)


def test_mistakes(make_model, corpora, tmp_path):
    with pytest.raises(ConfigError, match="general"):
        adapt_domain(make_model(), corpora["iron"], workspace=tmp_path)
    with pytest.raises(ConfigError, match="name of its own"):
        named = {"in-domain": corpora["other"]}
        adapt_domain(
            make_model(), corpora["iron"], general=corpora["time"], controls=named, config=CONFIG, workspace=tmp_path
        )
    with pytest.raises(ConfigError, match="tokens at most"):
        adapt_domain(
            make_model(),
            corpora["iron"],
            config=DomainConfig(replay=0.0, context_length=4096),
            workspace=tmp_path,
        )
