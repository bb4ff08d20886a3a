"""`bloomery export`: a model as a folder or file that others read. This module does not know the formats."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.export_tokenizer import TokenizerName, export_tokenizer
from bloomery.cli.generate import ModelName
from bloomery.cli.import_model import Dtype
from bloomery.cli.options import MODEL_KINDS, Common, print_json
from bloomery.core.errors import BloomeryError, ConfigError, DataError

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.workspace import Workspace
    from bloomery.evaluate.tasks import Question

_MAX_TEXT_BYTES = 1 << 30
_INTEGERS = ("int8", "int8-groups", "int4")
_SAMPLES, _SAMPLE_CHARACTERS = 256, 4000


def export(
    target: Annotated[Path, Parameter(help="A new folder (or with --gguf a new file) to write.")],
    *,
    model: ModelName = "",
    dtype: Dtype = None,
    gguf: Annotated[bool, Parameter(negative=(), help="One file for llama.cpp; two, if it sees.")] = False,
    quantize: Annotated[
        str | None,
        Parameter(help="Lighter weights, of a kind that vLLM reads: int8, int8-groups (more exact), int4, float16."),
    ] = None,
    group_size: Annotated[int, Parameter(help="With int8-groups, int4: inputs that share a scale, 32, 64, 128.")] = 32,
    calibrate: Annotated[
        Path | None,
        Parameter(help="With integers: a text that weights are fitted to [default: the training split, if known]."),
    ] = None,
    adapter: Annotated[
        Path | None, Parameter(help="The folder of a LoRA adapter in PEFT's format, to be merged into the weights.")
    ] = None,
    measure: Annotated[
        Path | None,
        Parameter(help="With --quantize: a text to compare before and after on [default: the validation split]."),
    ] = None,
    choices: Annotated[
        Path | None,
        Parameter(
            help="With --quantize: questions with answers to compare on, a line of JSON each: query, choices, gold."
        ),
    ] = None,
    tokenizer: TokenizerName = "",
    common: Common | None = None,
) -> None:
    """Write a model as a Hugging Face folder (transformers, vLLM), or as a GGUF file (llama.cpp).

    Recurrent nets and small classifiers, which no other program has, become a folder that `bloomery import` reads.
    """
    common = common or Common()
    if tokenizer:
        _tokenizer(target, tokenizer, common, [model, gguf, dtype, quantize, calibrate, adapter, measure, choices])
        return
    _check(target, gguf=gguf, quantize=quantize, measure=measure, choices=choices, adapter=adapter, calibrate=calibrate)
    from bloomery.engine.exchange import export_model
    from bloomery.engine.gguf_file import gguf_files

    workspace = common.workspace()
    reference = model or workspace.latest(*MODEL_KINDS)
    texts = _texts(reference, measure, workspace) if quantize is not None else []
    samples = _samples(reference, calibrate, workspace) if quantize in _INTEGERS else iter(())
    items = [] if choices is None else _items(choices, texts)
    notes: list[str] = []
    options: dict[str, Any] = {"dtype": dtype, "workspace": workspace, "note": notes.append}
    if gguf:
        made, *_ = files = gguf_files(reference, target, **options)
    else:
        options |= {"quantize": quantize, "group_size": group_size, "adapter": adapter, "calibrate": samples}
        made = export_model(reference, target, **options, progress=_fitting(common))
        files = sorted(path for path in made.rglob("*") if path.is_file())
    document = _described(made, files)
    if quantize is not None:
        document |= {"quantize": quantize, "report": _compared(reference, made, texts, items, quantize, workspace)}
    _show(document, files if gguf else [made], notes, common)


def _fitting(common: Common) -> Callable[[int, int], None]:
    """Tells a terminal how far weights are fitted."""

    def told(done: int, total: int) -> None:
        if sys.stderr.isatty() and not common.quiet:
            print(f"\rfitting weights {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return told


def _tokenizer(target: Path, reference: str, common: Common, others: list[Any]) -> None:
    if any(others):
        raise ConfigError("--tokenizer writes a tokenizer alone", hint="leave the options of models out")
    written = export_tokenizer(target, reference, common.workspace())
    folder = target if target.is_dir() else target.parent
    _show(written, [folder / name for name in written["files"]], [], common)


def _described(made: Path, files: list[Path]) -> dict[str, Any]:
    """What was written, for --json."""
    names = [path.relative_to(made).as_posix() if made.is_dir() else path.name for path in files]
    return {"path": str(made), "files": names, "bytes": sum(path.stat().st_size for path in files)}


def _show(document: dict[str, Any], files: list[Path], notes: list[str], common: Common) -> None:
    if common.json:
        print_json({**document, "notes": notes})
        return
    for path in files:
        print(f"{path}  {document['bytes'] if path.is_dir() else path.stat().st_size:,} bytes")
    for sentence in notes:
        print(f"note: {sentence}", file=sys.stderr)
    if "report" in document:
        print("\n".join(report_lines(document["report"])))


def _check(
    target: Path,
    *,
    gguf: bool,
    quantize: str | None,
    measure: Path | None,
    choices: Path | None,
    adapter: Path | None,
    calibrate: Path | None,
) -> None:
    """ConfigError for options that do not go together."""
    if not gguf and target.suffix == ".gguf":
        raise ConfigError(f"{target} looks like a file for llama.cpp", hint="add --gguf")
    if gguf and quantize is not None:
        raise ConfigError("--quantize writes a folder, not a GGUF file", hint="leave one of the two out")
    if measure is not None and quantize is None:
        raise ConfigError("--measure compares quantised weights with the model's own", hint="add --quantize int8")
    if calibrate is not None and quantize not in _INTEGERS:
        raise ConfigError("--calibrate is what integers are fitted to", hint="add --quantize int4")
    if adapter is not None and (gguf or quantize is not None):
        raise ConfigError("an adapter is merged into a plain folder", hint="export that, and then from that folder")
    if choices is not None and quantize is None:
        raise ConfigError("--choices compares quantised weights with the model's own", hint="add --quantize int8")


def _items(path: Path, texts: list[str]) -> list[Question]:
    """The questions of a file, before the model is written: a mistake in it should show now."""
    from bloomery.evaluate.choices import read_choices

    if not any(texts):
        raise ConfigError("--choices needs a text to compare on too", hint="add --measure FILE")
    return read_choices(path)


def _texts(reference: str | Artifact, measure: Path | None, workspace: Workspace) -> list[str]:
    """What to measure on; DataError for a file that cannot be read. None where a model has no corpus."""
    if measure is not None:
        return [_read(measure)]
    from bloomery.corpus import read_documents

    corpus = _corpus_of(reference, workspace)
    return [document.text for document in read_documents(corpus, "validation")] if corpus is not None else []


def _samples(reference: str | Artifact, calibrate: Path | None, workspace: Workspace) -> Iterator[str]:
    """What weights are fitted to: beginnings of documents, or parts of a file, from all over the text. Errors as
    `_texts`, before the first."""
    if calibrate is not None:
        text = _read(calibrate)
        step = max(_SAMPLE_CHARACTERS, len(text) // _SAMPLES)
        return (text[start : start + _SAMPLE_CHARACTERS] for start in range(0, len(text), step))
    from bloomery.corpus import read_documents

    corpus = _corpus_of(reference, workspace)
    if corpus is None:
        return iter(())
    step = max(1, int(corpus.metrics["documents"]["train"]) // _SAMPLES)
    return (one.text[:_SAMPLE_CHARACTERS] for one in islice(read_documents(corpus, "train"), 0, None, step))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise DataError(f"{path} is larger than {_MAX_TEXT_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    if not text.strip():
        raise DataError(f"{path} is empty", hint="give a file with text")
    return text


def _corpus_of(reference: str | Artifact, workspace: Workspace) -> Artifact | None:
    try:
        found = workspace.find(reference) if isinstance(reference, str) else reference
    except BloomeryError:
        return None  # a folder or a hub id: no corpus is known
    return next((one for _, _, one in workspace.lineage(found) if one is not None and one.kind == "corpus"), None)


def _compared(
    reference: str | Artifact, made: Path, texts: list[str], items: list[Question], quantize: str, workspace: Workspace
) -> dict[str, Any] | None:
    """Before and after; None where there is no text."""
    if not texts:
        return None
    from bloomery.engine import load_language_model
    from bloomery.engine.finding import find_model
    from bloomery.evaluate.lighter import compare_weights, file_bytes

    before = load_language_model(reference, weights="plain", workspace=workspace)
    after = load_language_model(made, weights="float16" if quantize == "float16" else None)
    report = compare_weights(before, after, texts, choices=items)
    report["before"]["file_bytes"] = file_bytes(find_model(reference, workspace)[0])
    report["after"]["file_bytes"] = file_bytes(made)
    before.close()
    after.close()
    return report


def report_lines(report: dict[str, Any] | None) -> list[str]:
    """The comparison for a terminal."""
    if report is None:
        return ["  loss unknown: no text to measure on (--measure FILE)"]
    from bloomery.core.quantity import Quantity

    def pair(label: str, key: str, form: str) -> str:
        both = (report[side][key] for side in ("before", "after"))
        return f"  {label:<22}" + " -> ".join("unknown" if value is None else format(value, form) for value in both)

    def joules(label: str, key: str) -> str:
        both = (Quantity.from_dict(report[side][key]).text("J") for side in ("before", "after"))
        return f"  {label:<22}" + " -> ".join(both)

    def choices() -> list[str]:
        found = report.get("choices")
        if found is None:
            return []
        one, other, change = found["before"], found["after"], found["change"]
        sides = " -> ".join(f"{x['accuracy']:.1%} [{x['low']:.1%}, {x['high']:.1%}]" for x in (one, other))
        by_bytes = " -> ".join(f"{x['by_bytes']['accuracy']:.1%}" for x in (one, other))
        return [
            f"  {'right choices':<22}{sides} of {found['items']:,}; by bytes {by_bytes}",
            f"  {'':<22}{change['accuracy']:+.1%} [{change['low']:+.1%}, {change['high']:+.1%}],"
            f" the same choice in {found['same_choice']:.1%}",
        ]

    packing = report["after"]["packing"] or {}
    return [
        pair("bits per byte", "bits_per_byte", ".4f") + f"  ({report['bits_per_byte_loss']:+.4f})",
        f"  {'same first choice':<22}{report['top1_agreement']:.2%} of {report['compared_tokens']:,} positions,"
        f" {report['divergence_nats']:.2g} nats apart",
        *choices(),
        pair("bytes of weight files", "file_bytes", ","),
        pair("bytes in memory", "weight_bytes", ","),
        pair("prefill, tokens/s", "prefill_tokens_per_second", ".1f"),
        pair("decode, tokens/s", "decode_tokens_per_second", ".1f"),
        joules("prefill, a token", "prefill_joules_per_token"),
        joules("decode, a token", "decode_joules_per_token"),
        *(f"  note: {note}" for note in packing.get("fallbacks", ())),
    ]
