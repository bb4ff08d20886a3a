"""Service: what every route shares; places and models come back when a visit is over."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from bloomery.core.errors import RequestError
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.server.allowance import Allowance, LimitReached, Limits
from bloomery.server.config import ServeConfig
from bloomery.server.service import Service
from bloomery.server.shelf import Shelf
from bloomery.server.tenant import Tenant
from bloomery.server.visit import SCOPE_KEY, Visit


def request(visit: Visit) -> Request:
    return Request({"type": "http", "headers": [], "method": "POST", "path": "/", SCOPE_KEY: visit})


@pytest.fixture
def service(tiny: LanguageModel, minilm: TextEncoder) -> Service:
    return Service(Shelf([tiny, minilm]), None, ServeConfig(api_key=""))


def test_kinds(service: Service, tiny: LanguageModel, minilm: TextEncoder):
    http = request(Visit())
    assert service.language_model("tiny", http) is tiny and service.text_encoder("minilm", http) is minilm
    for ask, name in ((service.language_model, "minilm"), (service.text_encoder, "tiny")):
        with pytest.raises(RequestError) as caught:
            ask(name, http)
        assert caught.value.code == "unsupported_model"


def test_a_visit_lasts_until_its_job_has_ended(service: Service):
    visit, over = Visit(), []
    visit.on_end(lambda: over.append(True))
    job = service.enter(request(visit))
    visit.end()
    assert not over
    job.leave()
    job.leave()
    assert over == [True]


def test_a_prompt_larger_than_the_allowance_never_runs(service: Service, tiny: LanguageModel):
    tenant = Tenant(name="a", allowance=Allowance(Limits(tokens_per_minute=8), clock=lambda: 0.0))
    visit = Visit(tenant=tenant)
    visit.spend(completion=4)
    job = service.enter(request(visit))
    with pytest.raises(LimitReached):
        service.served("x", "/", tiny, [[1] * 5], 1, {}, job, visit)
    assert service.served("x", "/", tiny, [[1] * 4], 1, {}, job, visit).visit is visit


def test_texts_are_encoded_off_the_loop_and_choices_are_bounded(service: Service, tiny: LanguageModel):
    assert service.encode(tiny, ["Once"], 1) == [tiny.encode_prompt("Once")]
    with pytest.raises(RequestError) as caught:
        service.encode(tiny, ["x"] * 100, 2)
    assert caught.value.param == "n"
