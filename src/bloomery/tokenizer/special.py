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
WORDPIECE_UNKNOWN = "[UNK]"
"""What word pieces write for a word that they cannot spell, as in BERT."""
SENTINEL = "<extra_id_{}>"
"""What stands for a span that was taken out, numbered as T5's."""
MIDDLE_TOKENS = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
"""What marks the parts of a document whose middle comes last, as Qwen's are spelt."""
MIDDLE_SPELLINGS = (MIDDLE_TOKENS, ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"))
"""Qwen's and StarCoder's."""

TURN_ENDS = (IM_END, "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>")
"""Tokens that end an answer in published chat formats; they end a generation where a folder names no eos itself."""

# The template spells BOS out, so text made from it is encoded without adding special tokens, as everywhere. Tools and
# calls are written as Hermes and Qwen write them: see `tool_style`.
_CHAT_TEMPLATE = """\
{{- bos_token }}
{%- set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if system %}
        {{- system + '\\n\\n' }}
    {%- endif %}
    {{- 'You can call these functions, each described by a line of JSON:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools>\\n\\nTo call one, write its name and arguments as JSON:\\n<tool_call>\\n' }}
    {{- '{"name": "...", "arguments": {...}}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if tools and loop.first and message['role'] == 'system' %}
    {%- elif message['role'] == 'tool' %}
        {{- '<|im_start|>tool\\n<tool_response>\\n' + message['content'] + '\\n</tool_response><|im_end|>\\n' }}
    {%- elif message['tool_calls'] %}
        {{- '<|im_start|>' + message['role'] }}
        {%- if message['content'] %}
            {{- '\\n' + message['content'] }}
        {%- endif %}
        {%- for call in message['tool_calls'] %}
            {{- '\\n<tool_call>\\n{"name": ' + (call['function']['name'] | tojson) + ', "arguments": ' }}
            {{- (call['function']['arguments'] | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message['role'] + '\\n' }}
        CONTENT
        {{- '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
CHAT_TEMPLATE = _CHAT_TEMPLATE.replace("CONTENT", "{{- '' + message['content'] }}")
ILLUSTRATED_CHAT_TEMPLATE = _CHAT_TEMPLATE.replace(
    "CONTENT",
    """\
{%- if message['content'] is string %}
            {{- message['content'] }}
        {%- else %}
            {%- for part in message['content'] %}
                {{- '<image>' if part['type'] == 'image' else part['text'] }}
            {%- endfor %}
        {%- endif %}""",
)
"""The same for messages that may hold images."""
PLAIN_PICTURE_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['content'] is string %}
        {{- (' ' if message['role'] == 'assistant' else '') + message['content'] }}
    {%- else %}
        {%- for part in message['content'] if part['type'] == 'image' %}
            {{- '<image>' }}
        {%- endfor %}
        {{- ' ' if message['role'] == 'assistant' else '' }}
        {%- for part in message['content'] if part['type'] != 'image' %}
            {{- part['text'] }}
        {%- endfor %}
    {%- endif %}
    {%- if message['role'] == 'assistant' %}
        {{- eos_token }}
    {%- elif message['role'] == 'system' %}
        {{- '\\n' }}
    {%- endif %}
{%- endfor %}
"""
"""`<image>QUESTION` and nothing else, the picture first wherever it stood: what a model knows that was trained on
captions, or on questions about pictures. Its answer begins with a space where there is a question."""
