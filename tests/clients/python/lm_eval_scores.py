"""lm-eval with our tokenizer and scores: python lm_eval_scores.py BASE_URL; JSON on stdin and stdout."""

from __future__ import annotations

import json
import logging
import sys

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI

logging.disable(logging.WARNING)
asked = json.load(sys.stdin)
lm = LocalCompletionsAPI(
    base_url=f"{sys.argv[1]}/v1/completions",
    model="tiny",
    max_length=256,
    batch_size=3,
    num_concurrent=2,
    max_retries=1,
)


def instances(kind: str, arguments: list) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=tuple(one), idx=n) for n, one in enumerate(arguments)]


pairs = instances("loglikelihood", asked["pairs"])
texts = instances("loglikelihood_rolling", [[text] for text in asked["texts"]])
until = instances("generate_until", [[text, {"until": [" "], "max_gen_toks": 12}] for text in asked["texts"]])
print(
    json.dumps(
        {
            "backend": lm.tokenizer_backend,
            "eot": lm.eot_token_id,
            "prefix": lm.prefix_token_id,
            "ids": [lm.tok_encode(text) for text in asked["texts"]],
            "pairs": lm.loglikelihood(pairs, disable_tqdm=True),
            "texts": lm.loglikelihood_rolling(texts, disable_tqdm=True),
            "generated": lm.generate_until(until, disable_tqdm=True),
        }
    )
)
