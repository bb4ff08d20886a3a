"""pydantic-ai over both routes: python pydantic_ai_run.py BASE_URL; prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


async def main() -> dict[str, list]:
    provider = OpenAIProvider(base_url=f"{sys.argv[1]}/v1", api_key="none")
    found = {}
    for name, kind in (("chat", OpenAIChatModel), ("responses", OpenAIResponsesModel)):
        agent = Agent(
            kind("tiny", provider=provider),
            instructions="Be brief",
            model_settings={"temperature": 0, "max_tokens": 20},
        )
        whole = await agent.run("Hello, furnace")
        async with agent.run_stream("Hello, furnace") as stream:
            streamed = "".join([delta async for delta in stream.stream_text(delta=True)])
        again = await agent.run("And?", message_history=whole.all_messages())
        usage = whole.usage() if callable(whole.usage) else whole.usage
        found[name] = [whole.output, streamed, usage.output_tokens, again.output]
    return found


print(json.dumps(asyncio.run(main())))
