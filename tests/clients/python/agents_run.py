"""The OpenAI Agents SDK over both routes: python agents_run.py BASE_URL; prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

set_tracing_disabled(True)


async def main() -> dict[str, list]:
    client = AsyncOpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
    settings = ModelSettings(temperature=2, max_tokens=700, extra_body={"seed": 3})
    found = {}
    for name, kind in (("chat", OpenAIChatCompletionsModel), ("responses", OpenAIResponsesModel)):
        model = kind(model="tiny", openai_client=client)
        agent = Agent(name="smith", instructions="Be brief", model=model, model_settings=settings)
        whole = await Runner.run(agent, "Hello, furnace")
        streamed, text = Runner.run_streamed(agent, "Hello, furnace"), ""
        async for event in streamed.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                text += event.data.delta
        usage = whole.context_wrapper.usage
        again = await Runner.run(agent, [*whole.to_input_list(), {"role": "user", "content": "And?"}])
        found[name] = [whole.final_output, text, streamed.final_output, usage.output_tokens, again.final_output]
    return found


print(json.dumps(asyncio.run(main())))
