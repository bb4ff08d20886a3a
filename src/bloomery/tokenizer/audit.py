"""audit: what tokenizers make of the same sentences in many languages; an artifact with the numbers.

    tokenizers x parallel text -> audit.json: by tokenizer, language and script

`token_costs` says how each number is defined. A price or a speed that is given makes the premium one in money and in
seconds; without them it is a ratio to the reference language, English where nothing else is said. This module does not
know how texts are read, how tokens are counted, nor the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.artifact import Artifact
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.tokenizer.opening import OpenedTokenizer, named_apart, open_tokenizer
from bloomery.tokenizer.parallel_text import ParallelText, read_parallel
from bloomery.tokenizer.token_costs import LanguageCost, LanguageText, TokenKinds, measure_language, premium_of

STAGE = "audit"
AUDIT_FILE = "audit.json"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    partition: str = ""
    """The partition of the texts to read (`dev`, `val`), where they have several; "" for all."""
    text_field: str = ""
    """The column or field of the text; "": utt, utterance, text or sentence."""
    reference: str = ""
    """The language that others are compared with; "" for English."""
    languages: tuple[str, ...] = ()
    """Languages to audit, and the reference with them; empty for all."""
    price: dict[str, Any] = field(default_factory=dict)
    """Price of a million tokens, by the tokenizer's name ("" for all others), in any currency."""
    tokens_per_second: dict[str, Any] = field(default_factory=dict)
    """Speed of the model that has the tokenizer, by its name ("" for all others)."""

    def __post_init__(self) -> None:
        for what in ("price", "tokens_per_second"):
            for name, value in getattr(self, what).items():
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if not number or not 0 < value < float("inf"):
                    said = f" of {name}" if name else ""
                    raise ConfigError(f'"{what}"{said} should be a positive number, not {value!r:.40}')


def audit(
    tokenizers: Sequence[str | Path | Artifact],
    texts: str | Path,
    *,
    config: AuditConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Audit tokenizers over parallel text; an artifact of kind "audit" (see `read_audit`).

    A tokenizer is an artifact, its name, a folder or a published file (see `open_tokenizer`); texts are as
    `read_parallel` takes them. Metrics: tokenizers, languages, sentences and, by tokenizer, the premium of the median
    and of the dearest language. ConfigError and DataError as those two raise, and for a price of no tokenizer here.
    """
    workspace, config = as_workspace(workspace), config or AuditConfig()
    if not tokenizers:
        raise ConfigError("no tokenizer to audit", hint="name one or more: files, folders or artifacts")
    found = [one.path if isinstance(one, Artifact) else one for one in tokenizers]
    opened = named_apart([open_tokenizer(one, workspace) for one in found])
    for what in ("price", "tokens_per_second"):
        for name in getattr(config, what):
            if name and name not in opened:
                raise ConfigError(f'"{what}" names {name}, which is not audited', hint=nearest(name, opened))
    text = read_parallel(texts, partition=config.partition, text_field=config.text_field)
    reference = text.reference(config.reference)
    if config.languages:
        text.only({*config.languages, reference})
    inputs = StageInputs(
        stage=STAGE,
        config={**to_dict(config), "tokenizers": list(opened), "texts": str(texts)},
        parents=tuple(dict.fromkeys(one.artifact for one in opened.values() if one.artifact)),
        fingerprint=f"{text.digest} {' '.join(one.digest for one in opened.values())}",
        version=_VERSION,
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    from bloomery.energy import open_meter

    with Run(workspace, inputs, meter=open_meter()) as run:
        data = _Audit(run, opened, text, reference, config).work(str(texts))
        folder = run.new_folder()
        written = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / AUDIT_FILE).write_bytes(written.encode("utf-8", "replace"))
        return run.publish(folder, kind="audit", metrics=_metrics(data))


def read_audit(artifact: Artifact) -> dict[str, Any]:
    """What an audit found: `reference`, `texts`, `definitions`, and for each of `tokenizers` its rows by `languages`
    and `scripts`."""
    if artifact.kind != "audit":
        raise ConfigError(f"{artifact.name} is a {artifact.kind}, not an audit", hint="give what audit returned")
    return json.loads(artifact.file(AUDIT_FILE).read_text(encoding="utf-8"))


class _Audit:
    """One run of the stage."""

    def __init__(
        self,
        run: Run,
        opened: Mapping[str, OpenedTokenizer],
        text: ParallelText,
        reference: str,
        config: AuditConfig,
    ) -> None:
        self.run, self.opened, self.config = run, opened, config
        self.blank, self.reference = text.blank, reference
        self.languages = aligned_texts(text, reference)
        self.total = len(opened) * sum(len(one.texts) for one in self.languages)

    def work(self, texts: str) -> dict[str, Any]:
        alone = [one.language for one in self.languages if not len(one.places)]
        if alone:
            self.run.note(f"no sentence in common with {self.reference}, so no premium: {', '.join(alone[:8])}")
        done, found = 0, []
        for name, one in self.opened.items():
            with self.run.phase(name):
                kinds, costs, counts = TokenKinds(one.tokenizer), [], {}
                for text in self.languages:
                    cost, tokens = measure_language(text, kinds, counts.get(self.reference))
                    costs.append(cost)
                    counts[text.language] = tokens
                    done += len(tokens)
                    self.run.progress(done, self.total, unit="sentences", language=text.language)
                found.append(self._told(name, one, costs, counts))
        return {
            "reference": self.reference,
            "texts": {"path": texts, "partition": self.config.partition, "blank_left_out": self.blank},
            "definitions": definitions(),
            "tokenizers": found,
        }

    def _told(
        self,
        name: str,
        one: OpenedTokenizer,
        costs: Sequence[LanguageCost],
        counts: Mapping[str, NDArray[np.int64]],
    ) -> dict[str, Any]:
        price = self.config.price.get(name, self.config.price.get(""))
        speed = self.config.tokens_per_second.get(name, self.config.tokens_per_second.get(""))
        rows = [{**cost.to_dict(), **money_and_time(cost, price, speed)} for cost in costs]
        rows.sort(key=lambda row: (row["premium"] is None, row["premium"], row["language"]))
        return {
            "name": name,
            "source": one.source,
            "digest": one.digest,
            "vocab_size": one.tokenizer.vocab_size,
            "price_per_million_tokens": price,
            "tokens_per_second": speed,
            "languages": rows,
            "scripts": self._scripts(costs, counts),
        }

    def _scripts(self, costs: Sequence[LanguageCost], counts: Mapping[str, NDArray[np.int64]]) -> list[dict[str, Any]]:
        """Sums over the languages of each script."""
        by_script: dict[str, list[LanguageCost]] = {}
        for cost in costs:
            by_script.setdefault(cost.script, []).append(cost)
        texts = {one.language: one for one in self.languages}
        reference = counts[self.reference]
        rows = []
        for script, members in by_script.items():
            inside = [texts[cost.language] for cost in members]
            tokens = np.concatenate([counts[one.language][one.places] for one in inside])
            premium = premium_of(tokens, np.concatenate([reference[one.reference_places] for one in inside]))
            every = np.concatenate([counts[one.language] for one in inside])
            summed = {key: sum(getattr(cost, key) for cost in members) for key in _SUMMED}
            rows.append(
                {
                    "script": script,
                    "languages": sorted(cost.language for cost in members),
                    **summed,
                    "median_tokens": float(np.median(every)),
                    "mean_tokens": float(every.mean()),
                    "p90_tokens": int(np.quantile(every, 0.9, method="inverted_cdf")),
                    "tokens_per_byte": summed["tokens"] / summed["text_bytes"],
                    "tokens_per_character": summed["tokens"] / summed["characters"],
                    "premium": premium["premium"],
                }
            )
        return sorted(rows, key=lambda row: (row["premium"] is None, row["premium"], row["script"]))


_SUMMED = ("sentences", "tokens", "text_bytes", "characters", "round_trip_failures", "failures_beyond_normalisation")


def aligned_texts(text: ParallelText, reference: str) -> list[LanguageText]:
    """Every language's sentences and their places in the reference language's, which comes first."""
    places = {key: place for place, key in enumerate(text.sentences[reference])}
    found = []
    for language, kept in text.sentences.items():
        pairs = [(place, places[key]) for place, key in enumerate(kept) if key in places]
        here, there = np.array(pairs, np.int64).reshape(-1, 2).T
        found.append(LanguageText(language, list(kept.values()), here, there))
    return sorted(found, key=lambda one: one.language != reference)


def money_and_time(cost: LanguageCost, price: float | None, speed: float | None) -> dict[str, float | None]:
    """What a price of a million tokens and a speed in tokens a second make of a language's premium.

    `price_of_million_reference_tokens`: what it costs to say what a million of the reference language's tokens say.
    `seconds_per_sentence`: how long its mean sentence takes at that speed; `seconds_per_reference_second`: how long
    takes what the reference language says in a second, which is the premium whatever the speed.
    """
    known = cost.premium is not None
    return {
        "price_of_million_reference_tokens": price * cost.premium if known and price else None,  # type: ignore[operator]
        "price_per_thousand_sentences": price * cost.mean_tokens / 1000 if price else None,
        "seconds_per_reference_second": cost.premium,
        "seconds_per_sentence": cost.mean_tokens / speed if speed else None,
        "characters_per_second": speed / cost.tokens_per_character if speed else None,
    }


def definitions() -> dict[str, str]:
    """What each number of a language means, as the docstrings of LanguageCost say it."""
    import ast
    import inspect

    body = ast.parse(inspect.getsource(LanguageCost)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[name], name = " ".join(str(node.value.value).split()), ""
    return found


def _metrics(data: Mapping[str, Any]) -> dict[str, Any]:
    first = data["tokenizers"][0]["languages"]
    return {
        "tokenizers": len(data["tokenizers"]),
        "languages": len(first),
        "sentences": sum(row["sentences"] for row in first),
        "premium": {one["name"]: _spread(one["languages"]) for one in data["tokenizers"]},
    }


def _spread(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    known = [row for row in rows if row["premium"] is not None]
    if not known:
        return {"median": None, "highest": None, "dearest": None}
    dearest = max(known, key=lambda row: row["premium"])
    middle = float(np.median([row["premium"] for row in known]))
    return {"median": middle, "highest": dearest["premium"], "dearest": dearest["language"]}
