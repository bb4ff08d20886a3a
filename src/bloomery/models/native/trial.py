"""Whether a decoder's steps and prompts go native: tried on the loaded model, compared and timed beside PyTorch's.

Each shape of matrix is compared with the product of what its codes stand for, the whole step with PyTorch's own, on a
few short texts of random tokens, read as prompts and token by token. If it is right and faster it is taken; if not, the
reason is kept. What was taken once is taken again without a trial (see `verdicts`). This module does not know requests.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from bloomery.core.errors import BloomeryError, DeviceError
from bloomery.models.decoder import Decoder
from bloomery.models.native.description import check as described
from bloomery.models.native.description import layer_groups, matrix_of, native_layer
from bloomery.models.native.library import Sums, library
from bloomery.models.native.linear import NativeLinear
from bloomery.models.native.matrix import Matrix
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.native.verdicts import key_of, mean_of, remember, remembered
from bloomery.models.packed import PackedLinear, Stored
from bloomery.models.paged import PagedMemory, PagedStep, Rows

log = logging.getLogger("bloomery.models")

MATRIX_ERROR = {"float32": 1e-5, "float16": 1e-5, "bfloat16": 1e-5, "int8": 2e-4, "int4": 0.02}
"""The largest relative error of a product beside its dequantised weights in float32: sums in another order; inputs
rounded to 32,767 steps for int8, which is 5e-5 where the largest is six deviations, to 127 in groups of 32 for int4."""
STEP_ERROR = {"float32": 1e-3, "float16": 1e-3, "bfloat16": 1e-3, "int8": 0.3, "int4": 0.3}
"""The largest relative distance of a step's logits from PyTorch's. Of integers it is mostly that of PyTorch's own
operators, which round activations to 7 bits or to bfloat16: a wrong step is off by about one."""
_LENGTHS = (1, 3, 6)
_PROMPT = 21
_TIMED_ROWS = (1, 8)
_TIMED_PROMPT = 32
"""Tokens: with so many a product is limited by arithmetic already."""
_SECONDS = 0.25
_ROUNDS = 4
_MAX_SHARE = 0.5
"""Of the memory that is free: what a second copy of the weights may take."""


@dataclass(frozen=True)
class Trial:
    """`native` is None where PyTorch makes the steps; `text` says what was found; `speedup` over PyTorch by rows of as
    many texts, and `error` as `STEP_ERROR`, where they were measured. `prompts` tells whether native code reads
    prompts, `prompt_speedup` why."""

    native: NativeDecoder | None
    text: str
    speedup: dict[int, float] | None = None
    error: float | None = None
    prompts: bool = False
    prompt_speedup: float | None = None


_known: dict[bool, weakref.WeakKeyDictionary[Decoder, Trial]] = {
    timed: weakref.WeakKeyDictionary() for timed in (False, True)
}


def trial_of(decoder: Decoder, *, timed: bool = True) -> Trial:
    """`try_native`, once for each decoder, and logged."""
    if library().calls is None:  # not remembered: it may be built
        return Trial(None, f"PyTorch: {library().text}")
    found = _known[timed].get(decoder)
    if found is None:
        found = _known[timed][decoder] = try_native(decoder, timed=timed)
        log.info("decode steps: %s", found.text)
    return found


def try_native(decoder: Decoder, *, timed: bool = True) -> Trial:
    """See the module. Without `timed`, being right is enough."""
    try:
        described(decoder)
        room_for(decoder)
        native = NativeDecoder(decoder)
        key = key_of(decoder) if timed else ""
        if known := remembered(key) if timed else None:
            return _found(native, known["speedup"], known["error"], known["prompt_speedup"], "; tried before")
        error = check(native)
    except (BloomeryError, RuntimeError, MemoryError) as problem:
        return Trial(None, f"PyTorch: {str(problem).partition(chr(10))[0]:.200}")
    if not timed:
        return Trial(native, library().text, None, error, prompts=True)
    speedup = measure(native)
    if (mean := mean_of(speedup)) <= 1.0:
        return Trial(None, f"PyTorch: the native step is slower here ({mean:.2f}x)", speedup, error)
    prompt = measure_prompt(native)
    remember(key, speedup=speedup, error=error, prompt_speedup=prompt)
    return _found(native, speedup, error, prompt)


def _found(native: NativeDecoder, speedup: dict[int, float], error: float, prompt: float, more: str = "") -> Trial:
    """A trial in favour of native steps."""
    read = f"{prompt:.1f}x" if prompt > 1.0 else f"read by PyTorch, for native code is slower here ({prompt:.2f}x)"
    text = f"{library().text}, {mean_of(speedup):.1f}x PyTorch; prompts {read}{more}"
    return Trial(native, text, speedup, error, prompt > 1.0, prompt)


def cache_dtype(decoder: Decoder) -> torch.dtype:
    """What native steps keep keys and values in: float16 beside packed weights of 16 bits and fewer, else as the
    weights."""
    formats = {one.format for one in decoder.modules() if isinstance(one, PackedLinear)}
    return torch.float16 if formats and "float32" not in formats else next(decoder.parameters()).dtype


def room_for(decoder: Decoder) -> None:
    """DeviceError if a second copy of the weights, but for native layers', would take too much of what is free."""
    layers = {id(one): one for one in decoder.modules() if isinstance(one, PackedLinear)}.values()
    needed = sum(one.nbytes for one in layers if not isinstance(one, NativeLinear))
    if not layers:
        needed = sum(one.nbytes for one in decoder.parameters())
    if needed > _MAX_SHARE * psutil.virtual_memory().available:
        raise DeviceError(f"no memory for a second copy of the weights ({needed / 1e9:.1f} GB)")


@torch.inference_mode()
def check(native: NativeDecoder) -> float:
    """The step's error; DeviceError if it, or that of a matrix, is more than its arithmetic explains."""
    seen = set()
    for matrix, layers in zip(native.description.matrices, layer_groups(native.decoder), strict=True):
        if matrix.layout not in seen and native_layer(layers) is None:  # a native layer, or one like it, was compared
            seen.add(matrix.layout)
            _check_matrix(matrix, matrix_of(layers))
    config = native.decoder.config
    memories = [PagedMemory(config, 80, cache_dtype(native.decoder)) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    worst = _check_prompt(native, memories, generator)
    for time_ in range(min(max(_LENGTHS), config.context_length)):
        # Texts of different lengths, the last one in two stretches of memory.
        places = [number for number, length in enumerate(_LENGTHS) if time_ < length]
        rows = [Rows(time_, 1, _runs(number, time_ + 1), config.reach(max(_LENGTHS))) for number in places]
        ids = torch.randint(config.vocab_size, (len(rows), 1), generator=generator)
        expected = torch_step(native.decoder, memories[0], rows, ids)
        sums = Sums(len(rows))
        got = native.step(memories[1], rows, ids.tolist(), sums)
        worst = max(worst, _error(native, got, expected))
        _check_sums(sums, got)
    return worst


def _check_sums(sums: Sums, logits: Tensor) -> None:
    logs = torch.tensor(list(sums.logs), dtype=torch.float64)
    best = logits.gather(1, torch.tensor(list(sums.best))[:, None])[:, 0]
    if not torch.equal(best, logits.amax(1)) or not torch.allclose(logs, logits.double().logsumexp(1), atol=1e-5):
        raise DeviceError("the native step finds other likeliest tokens or sums than are in its logits")


def _check_prompt(native: NativeDecoder, memories: Sequence[PagedMemory], generator: torch.Generator) -> float:
    """A prompt that is no multiple of anything, in two stretches of memory."""
    config = native.decoder.config
    length = min(_PROMPT, config.context_length)
    ids = torch.randint(config.vocab_size, (length, 1), generator=generator)
    rows = Rows(0, length, [(48, length)] if length < 8 else [(48, 7), (0, length - 7)], config.reach(length))
    expected = torch_step(native.decoder, memories[0], [rows], ids)
    return _error(native, native.prefill(memories[1], rows, ids[:, 0].tolist(), length), expected)


def _error(native: NativeDecoder, got: Tensor, expected: Tensor) -> float:
    error = float((got - expected).norm() / expected.norm().clamp_min(1e-30))
    bound = max(STEP_ERROR[one] for one in native.description.formats)
    if not error <= bound:  # NaN is no pass
        raise DeviceError(f"the native step is off by {error:.2g} of its result, at most {bound:.2g} is explained")
    return error


def _runs(number: int, length: int) -> list[tuple[int, int]]:
    first = 16 * number
    return [(first, length)] if number < 2 or length < 3 else [(first, 2), (first + 8, length - 2)]


def _check_matrix(matrix: Matrix, stored: Stored) -> None:
    x = torch.randn(5, matrix.inputs, generator=torch.Generator().manual_seed(1))
    x[-1] *= 100.0
    codes, scale, bias = stored.codes.float(), stored.scale, stored.bias
    weight = codes if scale is None else (codes.unflatten(1, (scale.size(1), -1)) * scale[..., None]).flatten(1)
    expected = torch.nn.functional.linear(x, weight)
    got = matrix.multiply(x) if bias is None else matrix.multiply(x) - bias
    for row in range(5):
        error = float((got[row] - expected[row]).norm() / expected[row].norm().clamp_min(1e-30))
        if not error <= MATRIX_ERROR[matrix.format]:
            raise DeviceError(f"the native product in {matrix.format} is off by {error:.2g} of its result")


@torch.inference_mode()
def torch_step(decoder: Decoder, memory: PagedMemory, rows: Sequence[Rows], ids: Tensor) -> Tensor:
    """Logits (N, V) of a step, by PyTorch; ids (N, 1) of its texts, one after the other."""
    return decoder.logits(decoder.hidden_states(ids.view(1, -1), cache=PagedStep(memory, rows))[0]).float()


def measure(native: NativeDecoder) -> dict[int, float]:
    """PyTorch's time of a step over native code's, by rows: the least of a few rounds in turn, as what else runs only
    adds to it."""
    config, found = native.decoder.config, {}
    before = min(31, config.context_length - 1)
    for count in _TIMED_ROWS:
        memory = PagedMemory(config, 32 * count, cache_dtype(native.decoder))
        for tensor in (*memory.keys, *memory.values):
            tensor.zero_()
        reach = config.reach(before + 1)
        rows = [Rows(before, 1, [(32 * number, before + 1)], reach) for number in range(count)]
        ids = torch.arange(count)[:, None] % config.vocab_size
        ours = lambda rows=rows, memory=memory, ids=ids: native.step(memory, rows, ids.tolist())  # noqa: E731
        theirs = lambda rows=rows, memory=memory, ids=ids: torch_step(native.decoder, memory, rows, ids)  # noqa: E731
        found[count] = _least(theirs, ours)
    return found


def measure_prompt(native: NativeDecoder) -> float:
    """PyTorch's time of reading a prompt over native code's, as `measure`."""
    config = native.decoder.config
    count = min(_TIMED_PROMPT, config.context_length)
    memory = PagedMemory(config, count, cache_dtype(native.decoder))
    rows = Rows(0, count, [(0, count)], config.reach(count))
    ids = torch.arange(count)[:, None] % config.vocab_size

    @torch.inference_mode()
    def theirs() -> Tensor:
        hidden = native.decoder.hidden_states(ids.view(1, -1), cache=PagedStep(memory, [rows]))[0]
        return native.decoder.logits(hidden[-1:])

    return _least(theirs, lambda: native.prefill(memory, rows, ids[:, 0].tolist(), 1))


def _least(one: Callable[[], Tensor], other: Callable[[], Tensor]) -> float:
    least, started = [math.inf, math.inf], time.perf_counter()
    for round_ in range(_ROUNDS + 1):  # the first warms up
        for number, call in enumerate((one, other)):
            before = time.perf_counter()
            call()
            if round_:
                least[number] = min(least[number], time.perf_counter() - before)
        if round_ and time.perf_counter() - started > _SECONDS:
            break
    return least[0] / least[1]
