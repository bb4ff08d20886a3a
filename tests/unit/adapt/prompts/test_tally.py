"""What an answer took is what its calls took; one that does not tell makes it unknown."""

from __future__ import annotations

import pytest

from bloomery.adapt.prompts.tally import SampleError, Tally, seed_for
from bloomery.core.errors import RequestError
from bloomery.core.messages import ChatOptions
from bloomery.evaluate.sample import Sample

SAMPLE = Sample(id="7", input="?")
ASKED = [{"role": "user", "content": "one two"}]


def test_sums(scripted):
    tally = Tally(scripted(lambda messages, options: "a b c"), SAMPLE)
    tally.ask(ASKED, ChatOptions())
    tally.ask_several(ASKED, [ChatOptions()] * 2)
    found = tally.answered("a", confidence=0.5)
    assert (found.prompt_tokens, found.completion_tokens, found.seconds) == (6, 9, 1.5)
    assert found.energy_joules.central == 6.0 and len(found.calls) == 3 and found.calls[0].text == "a b c"


def test_unknown_is_not_zero(scripted):
    tally = Tally(scripted(lambda messages, options: "a", usage=False), SAMPLE)
    tally.ask(ASKED, ChatOptions())
    found = tally.answered("a")
    assert found.prompt_tokens is None and not found.energy_joules.known
    assert Tally(tally.model, SAMPLE).answered("a").prompt_tokens is None


def test_several_at_once_come_in_their_order(scripted):
    model = scripted(lambda messages, options: str(options.seed))
    said = Tally(model, SAMPLE).ask_several(ASKED, [ChatOptions(seed=n) for n in range(20)], concurrency=4)
    assert [one.text for one in said] == [str(n) for n in range(20)]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_every_sample_would_meet_is_raised_and_the_rest_is_the_samples(scripted, concurrency: int):
    def failing(status: int):
        def says(messages, options):
            raise RequestError("no", status=status)

        return scripted(says)

    with pytest.raises(RequestError):
        Tally(failing(401), SAMPLE).ask_several(ASKED, [ChatOptions()] * 3, concurrency=concurrency)
    for status, broke_down in ((400, False), (429, True), (503, True)):
        with pytest.raises(SampleError) as raised:
            Tally(failing(status), SAMPLE).ask_several(ASKED, [ChatOptions()] * 3, concurrency=concurrency)
        assert raised.value.failed is broke_down


def test_no_answer_is_an_error_without_text_or_confidence(scripted):
    found = Tally(scripted(lambda messages, options: ""), SAMPLE).answered(None, confidence=0.3)
    assert found.text == "" and found.error and found.confidence is None and not found.failed


def test_seeds_differ_by_sample_and_draw_and_stay():
    assert seed_for(0, "a", 1) == seed_for(0, "a", 1)
    assert len({seed_for(s, i, n) for s in (0, 1) for i in "ab" for n in (0, 1)}) == 8
    assert 0 <= seed_for(3, "x") < 2**31
