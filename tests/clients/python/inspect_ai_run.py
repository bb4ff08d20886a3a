"""inspect_ai, in an environment of its own: python inspect_ai_run.py BASE_URL LOG_FOLDER; prints JSON."""

from __future__ import annotations

import json
import sys

import inspect_ai
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

config = GenerateConfig(max_tokens=20, temperature=0, max_retries=0)
model = get_model("openai-api/bloomery/tiny", base_url=f"{sys.argv[1]}/v1", api_key="none", config=config)
samples = [Sample(input="Hello, furnace", target="iron"), Sample(input="Once upon a time", target="e")]
task = inspect_ai.Task(dataset=samples, solver=generate(), scorer=includes())
(log,) = inspect_ai.eval(task, model=model, log_dir=sys.argv[2], display="none")
assert log.samples is not None, log.error
print(
    json.dumps(
        {
            "status": log.status,
            "outputs": [sample.output.completion for sample in log.samples],
            "tokens": [sample.output.usage.output_tokens for sample in log.samples if sample.output.usage],
        }
    )
)
