"""Teacher: texts that it writes for prompts, with what they cost; its likeliest tokens at places of given texts.

This module does not know students.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.adapt.distillation.student import Taught
from bloomery.adapt.divergence import candidates_of
from bloomery.adapt.preference.encoded import Completion, rows_of
from bloomery.core.artifact import write_durably
from bloomery.core.errors import DataError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Run
from bloomery.engine import LanguageModel
from bloomery.models import Decoder
from bloomery.models.weights import write_tensors
from bloomery.tokenizer import Tokenizer
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.objective import evaluating

TEXTS = "texts.jsonl"
CANDIDATES = "candidates.safetensors"
_PROMPTS_AT_ONCE = 16
_TOKENS_A_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class WritingCost:
    """What the teacher's texts cost: tokens read and written, wall-clock seconds, joules where the machine tells."""

    texts: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    energy_joules: Quantity

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {**asdict(self), "energy_joules": self.energy_joules.to_dict()}


def check_tokens(student: Tokenizer, teacher: Tokenizer) -> None:
    """DataError unless both have the same tokens under the same ids."""
    size = student.vocab_size
    if teacher.vocab_size != size or any(student.token_text(i) != teacher.token_text(i) for i in range(size)):
        raise DataError("teacher and student have other tokens", hint='way="texts" needs no common tokenizer')


def write_texts(
    teacher: LanguageModel,
    prompts: Sequence[Any],
    path: Path,
    *,
    max_new_tokens: int,
    temperature: float,
    samples: int,
    seed: int,
    told: Callable[[int], None] = lambda done: None,
) -> None:
    """Write {prompt, completion, ended, prompt_tokens, completion_tokens, seconds, energy_joules} of each text as
    JSONL.

    `prompts` are texts or messages. What is in the file already is kept: a call that was killed goes on after its last
    whole line. Texts that did not end within `max_new_tokens` say so.
    """
    done = _whole_lines(path)
    each = [(number, sample) for number in range(len(prompts)) for sample in range(samples)][done:]
    with path.open("a", encoding="utf-8") as stream:
        for start in range(0, len(each), _PROMPTS_AT_ONCE):
            group = each[start : start + _PROMPTS_AT_ONCE]
            began = time.perf_counter()
            requests = [
                teacher.request(
                    teacher.encode_prompt(_asked(prompts[number], teacher.tokenizer)),
                    [
                        {
                            "max_new_tokens": max_new_tokens,
                            "temperature": temperature,
                            "seed": (seed * 1_000_003 + number * samples + sample) % 2**63,
                        }
                    ],
                )
                for number, sample in group
            ]
            found = {place: delta.result for place, delta in teacher.engine.run_all(requests) if delta.result}
            seconds = (time.perf_counter() - began) / len(group)
            for place, (number, _) in enumerate(group):
                result = found[place]
                row = {
                    "prompt": prompts[number],
                    "completion": result.text,
                    "ended": result.finish_reason == "stop",
                    "prompt_tokens": result.prompt_tokens,
                    "completion_tokens": result.completion_tokens,
                    "seconds": seconds,
                    "energy_joules": result.energy.to_dict(),
                }
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
            told(done + start + len(group))


def cost_of(rows: Sequence[dict[str, Any]]) -> WritingCost:
    """The sum over rows of `write_texts`."""
    energy = Quantity.exact(0.0, "counter")
    for row in rows:
        energy = energy + Quantity.from_dict(row["energy_joules"])
    return WritingCost(
        texts=len(rows),
        prompt_tokens=sum(row["prompt_tokens"] for row in rows),
        completion_tokens=sum(row["completion_tokens"] for row in rows),
        seconds=sum(row["seconds"] for row in rows),
        energy_joules=energy,
    )


def _asked(prompt: Any, tokenizer: Tokenizer) -> Any:
    if isinstance(prompt, str) and tokenizer.chat_template is not None:
        return [{"role": "user", "content": prompt}]
    return prompt


def _whole_lines(path: Path) -> int:
    """How many whole lines a file has; what stands after them is cut off."""
    if not path.is_file():
        return 0
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        write_durably(path, whole)
    return whole.count(b"\n")


def ask_once(
    teacher: Decoder, texts: Sequence[Completion], count: int, run: Run, *, temperature: float, pad_id: int
) -> list[Taught]:
    """The teacher's `count` likeliest tokens at each token of each completion, kept in the run's scratch folder."""
    path = run.scratch / CANDIDATES
    lengths = [len(one.completion) for one in texts]
    ends = np.cumsum(lengths)
    if path.is_file():
        from safetensors.torch import load_file

        kept = load_file(path)
        ids, logprobs = kept["ids"].numpy(), kept["logprobs"].numpy()
        if len(ids) != ends[-1]:
            raise DataError(f"{path} is of other data", hint="begin anew with --fresh")
    else:
        ids, logprobs = _asked_once(teacher, texts, count, run, temperature, pad_id)
        partial = path.with_suffix(".partial")
        write_tensors({"ids": torch.from_numpy(ids), "logprobs": torch.from_numpy(logprobs)}, partial)
        partial.replace(path)
    parts = [slice(end - length, end) for end, length in zip(ends.tolist(), lengths, strict=True)]
    return [Taught(one, ids[part].astype(np.int64), logprobs[part]) for one, part in zip(texts, parts, strict=True)]


def _asked_once(
    teacher: Decoder, texts: Sequence[Completion], count: int, run: Run, temperature: float, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
    device = next(teacher.parameters()).device
    ids: list[np.ndarray] = []
    logprobs: list[np.ndarray] = []
    done = 0
    with evaluating(teacher):
        while done < len(texts):
            rows = 1
            longest = len(texts[done])
            while done + rows < len(texts) and max(longest, len(texts[done + rows])) * (rows + 1) <= _TOKENS_A_BATCH:
                longest = max(longest, len(texts[done + rows]))
                rows += 1
            arrays = rows_of(texts[done : done + rows], pad_id)
            input_ids, labels = (torch.from_numpy(array).to(device) for array in arrays)
            hidden = teacher.hidden_states(input_ids)[labels != IGNORED]
            best = candidates_of(teacher, hidden, count, temperature=temperature)
            ids.append(best[0].cpu().numpy().astype(np.int32))
            logprobs.append(best[1].cpu().numpy())
            done += rows
            run.progress(done, len(texts), unit="texts", doing="asking the teacher")
    return np.concatenate(ids), np.concatenate(logprobs)
