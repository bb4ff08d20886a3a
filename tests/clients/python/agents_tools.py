"""The OpenAI Agents SDK with a function, over both routes: python agents_tools.py BASE_URL; prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

set_tracing_disabled(True)


@function_tool
def forecast(city: Literal["Ur", "Uruk", "Nippur"]) -> str:
    """The weather of a city."""
    return f"hot in {city}"


async def main() -> dict[str, list]:
    client = AsyncOpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
    settings = ModelSettings(
        temperature=1, max_tokens=400, tool_choice="required", parallel_tool_calls=False, extra_body={"seed": 1}
    )
    found = {}
    for name, kind in (("chat", OpenAIChatCompletionsModel), ("responses", OpenAIResponsesModel)):
        model = kind(model="tiny", openai_client=client)
        agent = Agent(
            name="smith", instructions="Be brief", model=model, model_settings=settings, tools=[forecast],
            tool_use_behavior="stop_on_first_tool",
        )  # fmt: skip
        whole = await Runner.run(agent, "Is it hot?")
        streamed = Runner.run_streamed(agent, "Is it hot?")
        kinds = [event.name async for event in streamed.stream_events() if event.type == "run_item_stream_event"]
        # What was called and what it gave go back as items.
        again = await Runner.run(agent, [*whole.to_input_list(), {"role": "user", "content": "And now?"}])
        found[name] = [whole.final_output, streamed.final_output, kinds, again.final_output]
    return found


print(json.dumps(asyncio.run(main())))
