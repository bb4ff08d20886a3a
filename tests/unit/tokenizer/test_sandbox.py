"""The template sandbox: what templates need works, what harms is refused quickly."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from bloomery.tokenizer import sandbox
from bloomery.tokenizer.sandbox import RefusedError, TemplateSandbox


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}\n  {% if loop.index0 %}{% break %}{% endif %}\n{{ m.content | tojson }}\n{% endfor %}",
        "{%- set ns = namespace(n=0) -%}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n * 2 }}",
        "{% macro f(x) %}[{{ x | trim }}]{% endmacro %}{{ f(messages[0].content) }}{{ '-' * 3 }}",
        "{{ messages[0] | tojson(indent=2) }}{{ messages | map(attribute='role') | join(', ') }}",
        "{% generation %}a{{ messages[0].role }}{% endgeneration %}",
        "{{ messages[0].content.split('<')[-1].lstrip() }}{{ '%s!' % messages[0].role }}{{ messages[1:] | length }}",
        "{{ messages[0].content | replace('a', 'b') | upper }}{{ messages[0].missing is defined }}",
        "{% set r = range(3) | list %}{{ r[::-1] }}{% for i in r %}{% continue %}{% endfor %}",
        "{{ '{{2026}} {} {x}'.format(1, x=2) }}",
        "{{ '20260 %s' % 1 }}",
    ],
)
def test_renders_as_transformers(source: str):
    messages = [{"role": "user", "content": ' a <b> "é" \n'}, {"role": "assistant", "content": "c"}]
    theirs = render_jinja_template([messages], chat_template=source)[0][0]
    assert TemplateSandbox(source).render(messages=messages, add_generation_prompt=False) == theirs


def test_strftime_now():
    assert TemplateSandbox("{{ strftime_now('%Y') }}").render() in {str(datetime.now().year + i) for i in (-1, 0)}


def test_knows_its_strings():
    compiled = TemplateSandbox("<b>{{ 'shown' }}{% if 'sought' in x or x.startswith('begun') %}{% endif %}")
    assert compiled.compared >= {"sought", "begun"} and "shown" not in compiled.compared
    assert "shown" in compiled.constants


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 'x' * 10**10 }}",
        "{{ 'x' * 100000000 }}",
        "{{ [0] * 100000000 }}",
        "{{ 2 ** 9999999 }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{w}}'.format(1, w=1000000000) }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ messages | tojson(indent=1000000000) }}",
        "{{ range(10000000) | list }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'x' %}",
        "{{ undefined.name }}",
        "{{ 1 / 0 }}",
        "{% for %}",
        "{{ '" + "(" * 3000,
        "{{ " + "(" * 3000 + ")" * 3000 + " }}",
    ],
)
def test_harm_is_refused_in_one_line(source: str):
    began = time.perf_counter()
    with pytest.raises(RefusedError) as caught:
        TemplateSandbox(source).render(messages=[{"role": "user", "content": "x"}])
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "source",
    [
        "{% set r = range(90000) | list %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_endless_work_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, "_MAX_SECONDS", 0.25)
    with pytest.raises(RefusedError, match=r"longer than 0\.25 seconds"):
        TemplateSandbox(source).render()


def test_endless_text_is_stopped():
    source = "{% set s = 'x' * 60000 %}{% for a in range(90000) %}{{ s }}{% endfor %}"
    with pytest.raises(RefusedError, match="writes more"):
        TemplateSandbox(source).render()
