"""The openai package, unmodified, against a real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import openai
import pytest

HELLO: list = [{"role": "user", "content": "Hello, furnace"}]


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["tiny", "minilm"]
    assert client.models.retrieve("tiny").owned_by == "bloomery"


def test_chat(client: openai.OpenAI):
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_completion_tokens=12, seed=3, logprobs=True, top_logprobs=3
    )
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is not None and choice.logprobs.content
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0 and entry.bytes is not None and len(entry.top_logprobs) == 3
    usage = answer.usage
    assert usage is not None and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    energy = usage.to_dict()["energy_joules"]
    assert isinstance(energy, dict) and set(energy) == {"low", "central", "high", "method"}


@pytest.mark.parametrize("seed", range(4))
def test_a_chat_stream_equals_the_whole(client: openai.OpenAI, seed: int):
    options: dict = {"model": "tiny", "messages": HELLO, "max_tokens": 60, "seed": seed, "temperature": 1.5}
    whole = client.chat.completions.create(**options)
    stream = client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_the_stream_helper(client: openai.OpenAI):
    with client.chat.completions.stream(model="tiny", messages=HELLO, max_tokens=10, seed=1) as stream:
        events = list(stream)
        message = stream.current_completion_snapshot.choices[0].message
    whole = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=10, seed=1)
    assert message.content == whole.choices[0].message.content
    assert "content.done" in {event.type for event in events}


def test_completions(client: openai.OpenAI):
    options: dict = {"model": "tiny", "prompt": ["Once upon", "def"], "max_tokens": 20, "seed": 5, "n": 2}
    whole = client.completions.create(**options)
    assert [c.index for c in whole.choices] == [0, 1, 2, 3]
    texts = [""] * 4
    for chunk in client.completions.create(**options, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [c.text for c in whole.choices]


def test_completions_with_echo_and_logprobs(client: openai.OpenAI):
    answer = client.completions.create(model="tiny", prompt="Once upon", echo=True, logprobs=2, max_tokens=3, seed=0)
    choice = answer.choices[0]
    assert choice.text.startswith("Once upon")
    logprobs = choice.logprobs
    assert logprobs is not None and logprobs.tokens and logprobs.token_logprobs and logprobs.top_logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
    assert logprobs.token_logprobs[0] is None  # type: ignore[comparison-overlap]


def test_extensions_pass_through_extra_body(client: openai.OpenAI):
    greedy = client.completions.create(model="tiny", prompt="Once", temperature=0, max_tokens=10)
    top_1 = client.completions.create(model="tiny", prompt="Once", max_tokens=10, extra_body={"top_k": 1, "min_p": 0.0})
    assert top_1.choices[0].text == greedy.choices[0].text


def test_errors_are_the_clients_own(client: openai.OpenAI, server: str):
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="tiny", messages=HELLO, temperature=-1)
    assert bad.value.param == "temperature" and bad.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(model="tiny", messages=HELLO, reasoning_effort="high")
    assert unsupported.value.param == "reasoning_effort"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt=[5] * 2_000, stream=True)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as other_kind:
        client.embeddings.create(model="tiny", input="x", encoding_format="float")
    assert other_kind.value.code == "unsupported_model"
    with pytest.raises(openai.NotFoundError):
        client.moderations.create(input="x")


def test_leaving_a_stream_frees_the_server(client: openai.OpenAI):
    for _ in range(5):
        stream = client.completions.create(model="tiny", prompt="a", max_tokens=1_000, stream=True)
        next(iter(stream))
        stream.close()
    assert client.completions.create(model="tiny", prompt="a", max_tokens=2, timeout=20).choices


async def _many(server: str) -> list[str]:
    import asyncio

    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        asked = (
            client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=16, seed=s % 3) for s in range(9)
        )
        return [answer.choices[0].message.content or "" for answer in await asyncio.gather(*asked)]


def test_many_at_once_get_their_own_answers(server: str):
    import asyncio

    texts = asyncio.run(_many(server))
    assert texts[:3] * 3 == texts


def test_embeddings(client: openai.OpenAI, minilm_folder: Path):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm_folder), device="cpu").encode(["iron", "ore"], convert_to_numpy=True)
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client.embeddings.create(model="minilm", input=["iron", "ore"], **options)
        vectors = [one.embedding for one in answer.data]
        if options.get("encoding_format") == "base64":
            vectors = [np.frombuffer(base64.b64decode(cast(str, one)), dtype="<f4") for one in vectors]
        # Float32 sums in another order; the vectors have length one.
        assert np.abs(np.array(vectors) - theirs).max() < 1e-5
        assert answer.usage.total_tokens == 6


def test_responses(client: openai.OpenAI):
    # At this temperature every token is about as likely as any other: an end comes long before the limit.
    ask: dict = {"model": "tiny", "input": "Hello, furnace", "temperature": 2, "max_output_tokens": 900}
    ask["extra_body"] = {"seed": 3}
    whole = client.responses.create(**ask, store=False, instructions="Be brief")
    assert whole.status == "completed" and whole.output_text and whole.usage is not None
    with client.responses.stream(**ask, instructions="Be brief") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == whole.output_text and final.usage is not None
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    again = client.responses.create(
        model="tiny",
        input=[{"role": "user", "content": "Hello"}, *final.output],
        max_output_tokens=3,  # type: ignore[list-item]
        extra_body={"seed": 3},
    )
    assert again.status == "incomplete" and again.incomplete_details is not None
    raw = client.responses.create(**ask | {"max_output_tokens": 3}, stream=True)
    assert [event.type for event in raw][-1] == "response.incomplete"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ask, previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):  # nothing is stored
        client.responses.retrieve(whole.id)
