"""`bloomery generate`: complete a prompt, streamed to stdout. This module does not know how tokens are chosen."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.constraint_options import ConstraintOptions
from bloomery.cli.options import Common, print_json
from bloomery.cli.search_options import SearchOptions
from bloomery.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from bloomery.core.workspace import Workspace
    from bloomery.engine import Delta, GenerationResult, LanguageModel
    from bloomery.engine.images import Wanted

ModelName = Annotated[
    str, Parameter(help="A model: artifact name or id, a Hugging Face folder, or a hub id [default: the latest].")
]


Weights = Annotated[
    str | None,
    Parameter(
        help="Compute with packed weights: float32, float16, int8, int8-weight-only, int4 (CPU); bfloat16 (CUDA); auto"
        " measures and takes the fastest that changes next-token distributions by at most 0.01 nats; plain"
        " [default: as the file is]."
    ),
]

AdapterName = Annotated[
    str | None, Parameter(help="A LoRA adapter: an artifact's name or id, or a folder in PEFT's format.")
]

_MAX_PROMPT_CHARACTERS = 10_000_000


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Half a million objects come that stay: to look for garbage among them takes a tenth of a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def open_model(
    reference: str, workspace: Workspace, weights: str | None = None, adapter: str | None = None
) -> LanguageModel:
    """The model of that name, or the newest one of the workspace; `weights` as `bl.load` takes it; with an adapter if
    one is given, and then by default the model that the adapter's artifact was trained on."""
    with _no_garbage():
        from bloomery.engine import load_language_model
    if adapter is None:
        return load_language_model(reference or workspace.latest("model"), weights=weights, workspace=workspace)
    from bloomery.adapt.tuning.adapt import adapter_folder
    from bloomery.adapt.tuning.merging import base_id

    folder, artifact = adapter_folder(adapter, workspace)
    base = reference or (base_id(artifact) if artifact is not None else workspace.latest("model"))
    loaded = load_language_model(base, weights=weights, workspace=workspace)
    return loaded.adapted(loaded.load_adapter(folder).name)


def generate(
    prompt: Annotated[str | None, Parameter(help="The text to go on from [default: what comes on stdin].")] = None,
    *,
    model: ModelName = "",
    max_new_tokens: Annotated[int, Parameter(help="Tokens at most.")] = 128,
    temperature: Annotated[float, Parameter(help="0 is greedy.")] = 0.8,
    top_k: Annotated[int | None, Parameter(help="Only the k most probable tokens.")] = None,
    top_p: Annotated[float | None, Parameter(help="Only the most probable tokens that make up this share.")] = None,
    min_p: Annotated[float | None, Parameter(help="Only tokens at least this share of the best's probability.")] = None,
    seed: Annotated[int | None, Parameter(help="Makes the sampling repeatable.")] = None,
    stop: Annotated[list[str] | None, Parameter(negative=(), help="End before this text. May be repeated.")] = None,
    image: Annotated[
        list[Path] | None, Parameter(negative=(), help="A picture that the model is shown. May be repeated.")
    ] = None,
    logprobs: Annotated[int | None, Parameter(help="With --json: this many alternatives for each token.")] = None,
    adapter: AdapterName = None,
    weights: Weights = None,
    drafts: Annotated[
        bool, Parameter(negative=(), help="Guess tokens from the text: faster where it repeats.")
    ] = False,
    form: ConstraintOptions | None = None,
    search: SearchOptions | None = None,
    common: Common | None = None,
) -> None:
    """Complete a prompt. Text is streamed to stdout; --json prints tokens, log-probabilities, timings and joules."""
    common = common or Common()
    if prompt is None and sys.stdin.isatty():
        raise ConfigError("nothing to go on from", hint='bloomery generate "Once upon a time"')
    if logprobs is not None and not common.json:
        raise ConfigError("--logprobs is printed as JSON only", hint="add --json")
    text = _read_stdin() if prompt is None else prompt
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "seed": seed,
        "stop": stop,
        "logprobs": logprobs,
        "constraint": form.constraint() if form is not None else None,
        **(search.parameters() if search is not None else {}),
    }
    _check_names(options)
    quick = not (adapter or drafts or image or common.json or (search is not None and search.several))
    wanted = _wanted(model, weights, common) if quick else None
    if wanted is not None and _print_from_image(text, wanted, options, common):
        return
    loaded = open_model(model, common.workspace(), weights, adapter)
    _guess(loaded, drafts)
    if search is not None and search.several:
        if image:
            raise ConfigError("several texts about a picture are not supported", hint="leave --image out")
        _print_several(search.texts(loaded, text, options), json=common.json)
        return
    if image:
        options["image"] = _seen_by(loaded, image)
    _print_one(loaded, text, options, common)
    if wanted is not None:
        _keep(loaded, wanted, _wanted(model, weights, common), common)


def _wanted(model: str, weights: str | None, common: Common) -> Wanted | None:
    """What is to be found as an image, if anything is."""
    with _no_garbage():
        from bloomery.engine.images import wanted
    return wanted(model, common.workspace(), weights)


def _print_from_image(text: str, wanted: Wanted, options: dict[str, Any], common: Common) -> bool:
    """What a model that was kept as an image says, without PyTorch; False where that is not to be had."""
    with _no_garbage():
        from bloomery.engine.quick_start import quick_model
    found = quick_model(wanted)
    deltas = None if found is None else found.stream(text, options)
    if deltas is None:
        return False
    _print_text(deltas, common)
    return True


def _keep(loaded: LanguageModel, wanted: Wanted, now: Wanted | None, common: Common) -> None:
    """For the next process. Who interrupts it has the text."""
    from bloomery.engine.images import IMAGES_VARIABLE, images_folder
    from bloomery.engine.quick_start import keep

    def note(size: int) -> None:
        if not common.quiet:
            where = f"{size / 1e6:.0f} MB in {images_folder()}"
            print(f"[kept for quick starts: {where}; {IMAGES_VARIABLE}=off keeps none]", file=sys.stderr, flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        keep(loaded, wanted, now, note)


def _guess(model: LanguageModel, drafts: bool) -> None:
    if drafts:
        from bloomery.engine import EngineConfig

        model.set_engine(EngineConfig(drafts="ngram"))


def _print_one(model: LanguageModel, text: str, options: dict[str, Any], common: Common) -> None:
    if common.json:
        data = result_data(model.generate(text, **options))
        data["weights"] = _weights_data(model)
        print_json(data)
        return
    _print_text(model.stream(text, **options), common)


def _print_text(deltas: Iterator[Delta], common: Common) -> None:
    """Text as it comes, and then its speed and joules."""
    result = None
    for delta in deltas:
        print(delta.text, end="", flush=True)
        result = delta.result or result
    print()
    if result is not None and not common.quiet:
        print(speed_line(result), file=sys.stderr)


def _check_names(options: dict[str, Any]) -> None:
    from bloomery.engine.params import SamplingParams

    known = SamplingParams.__dataclass_fields__
    for name in options:
        if name not in known:
            raise ConfigError(f"no sampling parameter {name!r:.60}", hint=nearest(name, known))


def _print_several(texts: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        print_json({"texts": texts})
        return
    for number, one in enumerate(texts, 1):
        print(f"[{number}, log-probability {one['logprob']:.2f}]")
        print(one["text"])


def _weights_data(model: LanguageModel) -> dict[str, Any] | None:
    """What the linear layers were packed in, and which were not; None if they are plain."""
    from bloomery.models.packing import packing_of

    packing = packing_of(model.decoder)
    return None if packing is None else packing.to_dict()


def _seen_by(model: LanguageModel, images: list[Path]) -> list[Path]:
    from bloomery.engine import VisionLanguageModel

    if not isinstance(model, VisionLanguageModel):
        raise ConfigError(f"{model.name} reads text only", hint="leave --image out, or take a model that sees")
    for path in images:
        if not path.is_file():
            raise ConfigError(f"no such file: {path}", hint="check the spelling")
    return images


def _read_stdin() -> str:
    try:
        text = sys.stdin.read(_MAX_PROMPT_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise ConfigError(f"what comes on stdin is not text: {error.reason} at byte {error.start}") from error
    if len(text) > _MAX_PROMPT_CHARACTERS:
        raise ConfigError(f"what comes on stdin is longer than {_MAX_PROMPT_CHARACTERS:,} characters")
    return text


def result_data(result: GenerationResult) -> dict[str, Any]:
    """What `--json` says of a generation."""
    data: dict[str, Any] = {
        "text": result.text,
        "token_ids": list(result.token_ids),
        "logprobs": list(result.logprobs),
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.prompt_tokens,
        "seed": result.seed,
        "timings": {
            "prefill_seconds": result.timings.prefill_seconds,
            "decode_seconds": result.timings.decode_seconds,
        },
        "energy_joules": result.energy.to_dict(),
    }
    if result.top_logprobs is not None:
        data["top_logprobs"] = [[entry._asdict() for entry in entries] for entries in result.top_logprobs]
    return data


def speed_line(result: GenerationResult) -> str:
    """Tokens, speed and joules of one answer."""
    tokens, seconds = len(result.token_ids), result.timings.prefill_seconds + result.timings.decode_seconds
    rate = f", {tokens / seconds:.0f} tokens/s" if seconds > 0 else ""
    return f"[{result.prompt_tokens} + {tokens} tokens, {seconds:.2f} s{rate}, {result.energy.text('J')}]"
