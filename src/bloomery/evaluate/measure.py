"""The measuring stage: a model's bits per byte on the test split, beside what it has to beat, and completions.

The test split is read here and nowhere else. The artifact holds `scores.json`. This module does not know
benchmarks or judges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.engine import LanguageModel, load_language_model
from bloomery.evaluate.baselines import Baseline, byte_ngram, compressors, split_texts, token_unigram
from bloomery.evaluate.bits_per_byte import BitsPerByte, bits_per_byte

_PROMPTS = ("Return the number of", "The with statement is used to", "Raises ValueError if")


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What is measured after training."""

    ngram_order: int = 5
    """Symbols of the byte n-gram, the predicted one included."""
    prompts: tuple[str, ...] = _PROMPTS
    """Completed by the model; shown in the report with each token's log-probability."""
    max_new_tokens: int = 40
    """Tokens of a completion."""
    temperature: float = 0.7
    """Of the completions; 0 is greedy."""
    seed: int = 0
    """Of the completions."""

    def __post_init__(self) -> None:
        if not 1 <= self.ngram_order <= 7:
            raise ConfigError(f'"measure.ngram_order" should be from 1 to 7, not {self.ngram_order}')


def measure_inputs(config: MeasureConfig, model: str, corpus: str, tokens: str) -> StageInputs:
    """What the measuring stage depends on; artifact ids."""
    return StageInputs(stage="measure", config=to_dict(config), parents=(model, corpus, tokens), seed=config.seed)


def measure(
    model: Artifact,
    corpus: Artifact,
    tokens: Artifact,
    *,
    config: MeasureConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Score a model on the test split (the validation split where a corpus has no test documents).

    Returns a "scores" artifact; `read_scores` gives its content.
    """
    workspace = as_workspace(workspace)
    config = config or MeasureConfig()
    inputs = measure_inputs(config, model.id, corpus.id, tokens.id)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        loaded = load_language_model(model.path, workspace=workspace)
        split = "test" if corpus.metrics["documents"].get("test") else "validation"
        texts = split_texts(corpus, split)
        with run.phase("score"):
            total = len(texts)
            score = bits_per_byte(
                loaded,
                (text.decode() for text in texts),
                progress=lambda done: run.progress(done, total, unit="documents"),
            )
        with run.phase("baselines"):
            run.progress(0, None, unit="baselines", doing="counting n-grams, compressing")
            baselines = _baselines(corpus, tokens, loaded, texts, split, config)
        with run.phase("complete"):
            completions = [_completion(loaded, prompt, config) for prompt in config.prompts]
        scores = _scores(split, score, baselines, completions)
        folder = run.new_folder()
        write_durably(folder / "scores.json", json.dumps(scores, indent=1, ensure_ascii=False).encode())
        run.metrics({f"{split}_bits_per_byte": score.bits_per_byte})
        return run.publish(folder, kind="scores", metrics={"split": split, "bits_per_byte": score.bits_per_byte})


def read_scores(scores: Artifact) -> dict[str, Any]:
    """The content of a scores artifact: split, score, baselines, completions."""
    return json.loads(scores.file("scores.json").read_text(encoding="utf-8"))


def _baselines(
    corpus: Artifact, tokens: Artifact, model: LanguageModel, texts: Sequence[bytes], split: str, config: MeasureConfig
) -> list[Baseline]:
    return [
        token_unigram(tokens, model.tokenizer, split),
        byte_ngram(corpus, texts, order=config.ngram_order),
        *compressors(texts),
    ]


def _completion(model: LanguageModel, prompt: str, config: MeasureConfig) -> dict[str, Any]:
    result = model.generate(
        prompt, max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=config.seed
    )
    tokens = [model.tokenizer.token_bytes(i).decode(errors="replace") for i in result.token_ids]
    pairs = zip(tokens, result.logprobs, strict=True)
    return {
        "prompt": prompt,
        "text": result.text,
        "tokens": [{"text": text, "logprob": round(value, 4)} for text, value in pairs],
    }


def _scores(
    split: str, score: BitsPerByte, baselines: Sequence[Baseline], completions: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "split": split,
        "score": asdict(score),
        "baselines": [asdict(b) for b in baselines],
        "completions": list(completions),
    }
