"""Proposals: other instructions and other examples for a prompt, to be tried.

Instructions are written by a model from a few labelled samples (Zhou et al., 2023, arXiv 2211.01910), said in other
words by it, or changed by small edits (Prasad et al., 2023, arXiv 2203.07281: a sentence left out, two exchanged).
Example sets are seeded, balanced draws. Only training samples are shown. This module does not know how they are judged.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from bloomery.adapt.prompts.examples import balanced, sample_shot
from bloomery.adapt.prompts.template import PromptTemplate, is_templated
from bloomery.core.messages import Message
from bloomery.evaluate.sample import Sample

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_MOST_CHARACTERS = 2000
_SHOWN = 4

WRITE = PromptTemplate(
    name="write an instruction",
    user="""I gave a colleague an instruction. They answered these inputs with these outputs:

{% for one in examples %}
Input: {{ one.input }}
{% if one.choices %}
Choices: {{ one.choices | map(attribute="text") | join(", ") }}
{% endif %}
Output: {{ one.answer }}

{% endfor %}
{% if instruction %}
The instruction so far was: {{ instruction }}
Write a better one.
{% else %}
What was the instruction?
{% endif %}
Answer with the instruction alone, in one paragraph.""",
)
REWORD = PromptTemplate(
    name="other words",
    user="""Say this instruction in other words. Keep what it asks for. Answer with the instruction alone.

{{ instruction }}""",
)


def writing(instruction: str, train: Sequence[Sample], seed: int) -> list[Message]:
    """What a model is asked for an instruction: a few samples, drawn by the seed, with their answers."""
    shown = balanced([one for one in train if one.targets], _SHOWN, seed)
    template = replace(WRITE, instruction=instruction, examples=replace(WRITE.examples, as_turns=False))
    return template.messages(Sample(id="instruction", input=""), shown)


def rewording(instruction: str) -> list[Message]:
    """What a model is asked for the same instruction in other words."""
    return replace(REWORD, instruction=instruction).messages(Sample(id="instruction", input=""))


def read_instruction(said: str) -> str:
    """The instruction in what a model said: its first paragraph, without quotes or a title before a colon; "" where it
    wrote a template, which an instruction is not."""
    paragraphs = [one.strip() for one in said.strip().split("\n\n") if one.strip()]
    if not paragraphs:
        return ""
    first = paragraphs[1] if len(paragraphs) > 1 and paragraphs[0].endswith(":") else paragraphs[0]
    first = re.sub(r"^(the\s+)?(\w+\s+)?instruction( is| was)?\s*:\s*", "", first, flags=re.IGNORECASE)
    said = " ".join(first.strip(" \"'`*").split())[:_MOST_CHARACTERS]
    return "" if is_templated(said) else said


def edited(instruction: str, seed: int) -> str:
    """A small edit: a sentence left out, or two exchanged; "" if
    there is nothing to edit."""
    sentences = _SENTENCE.split(instruction.strip())
    if len(sentences) < 2:
        return ""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        del sentences[rng.randrange(len(sentences))]
    else:
        one, other = rng.sample(range(len(sentences)), 2)
        sentences[one], sentences[other] = sentences[other], sentences[one]
    return " ".join(sentences)


def with_instruction(template: PromptTemplate, instruction: str) -> PromptTemplate:
    """The prompt with another instruction."""
    return replace(template, instruction=instruction)


def with_examples(template: PromptTemplate, train: Sequence[Sample], count: int, seed: int) -> PromptTemplate:
    """The prompt with its own examples: a seeded, balanced draw."""
    drawn = balanced([one for one in train if one.targets], count, seed)
    settings = replace(template.examples, count=len(drawn), how="fixed")
    return replace(template, shots=tuple(sample_shot(one) for one in drawn), examples=settings)
