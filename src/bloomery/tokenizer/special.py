"""The special tokens of our tokenizers and their chat template (ChatML).

`<|endoftext|>` begins every document and ends it; `<|im_start|>` and `<|im_end|>` enclose the messages of a chat.
This module does not know how text is encoded.
"""

from __future__ import annotations

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END)

START_OF_TEXT = "<|startoftext|>"
"""What begins a text that ends with END_OF_TEXT, as CLIP spells it."""
IMAGE = "<image>"
"""A picture's place in a text, as LLaVA spells it."""
MASK = "<|mask|>"
"""What stands in a blank."""
SENTINEL = "<extra_id_{}>"
"""What stands for a span that was taken out, numbered as T5's."""
MIDDLE_TOKENS = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
"""What marks the parts of a document whose middle comes last, as Qwen's are spelt."""
MIDDLE_SPELLINGS = (MIDDLE_TOKENS, ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"))
"""Qwen's and StarCoder's."""

TURN_ENDS = (IM_END, "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>")
"""Tokens that end an answer in published chat formats; they end a generation where a folder names no eos itself."""

# The template spells BOS out, so text made from it is encoded without adding special tokens, as everywhere.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
ILLUSTRATED_CHAT_TEMPLATE = CHAT_TEMPLATE.replace(
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}",
    """{{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for part in message['content'] %}
            {{- '<image>' if part['type'] == 'image' else part['text'] }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>' + '\\n' }}""",
)
"""The same for messages that may hold images."""
