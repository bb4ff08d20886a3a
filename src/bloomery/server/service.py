"""Service: what every route shares: the models, the waiting room, the books.

This module does not know bodies, wire formats or routes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.engine.language_model import Prompt, SamplingOptions
from bloomery.server import embeddings
from bloomery.server.adapters import LoadAdapterBody, UnloadAdapterBody, load_adapter_onto
from bloomery.server.beam_answers import beams_of
from bloomery.server.config import ServeConfig
from bloomery.server.drain import Drain
from bloomery.server.drift import DriftWatch
from bloomery.server.embeddings import Embedding
from bloomery.server.inspection import check_inspect
from bloomery.server.loading import LoadBody, load_onto
from bloomery.server.metrics import Metrics
from bloomery.server.record import Reader, Record, ledger_reader, tell
from bloomery.server.responses import ResponsesBody
from bloomery.server.schemas import Body, ChatBody, CompletionBody
from bloomery.server.served import ServedRequest, new_id
from bloomery.server.shelf import Served, Shelf
from bloomery.server.store import FILE, RequestStore
from bloomery.server.tenant import ADMIN, INSPECT
from bloomery.server.traces import Traces, otlp_exporter
from bloomery.server.visit import Visit, visit_of
from bloomery.server.waiting import CANCELLED_STATUS, DeadlinePassed, Job, ShuttingDown, WaitingRoom

_LOOK_SECONDS = 0.02


class Service:
    """See the module."""

    def __init__(self, shelf: Shelf, workspace: Workspace | None, config: ServeConfig) -> None:
        self.shelf = shelf
        self.workspace = workspace
        self.config = config
        self.room = WaitingRoom(
            max_running=config.max_running,
            max_waiting=config.max_waiting,
            max_waiting_of_one=config.waiting_of_key,
        )
        drift = DriftWatch(config.drift_window) if config.drift_window else None
        self.metrics = Metrics(self.room, shelf.models, drift)
        self.drain = Drain()
        self.store = open_store(workspace, config)
        self.readers: list[Reader] = [] if workspace is None else [ledger_reader(workspace.ledger)]
        if self.store is not None:
            self.readers.append(self.store.add)
        if drift is not None:
            self.readers.append(drift.add)
        self._traces: Traces | None = None
        if config.otlp_endpoint:
            self._traces = Traces(otlp_exporter(config.otlp_endpoint), content=config.otlp_content)
            self.readers.append(self._traces.add)
        self._loading = asyncio.Lock()

    def model(self, name: str | None, http: Request) -> Served:
        """A model until the request is over; None takes the first. RequestError 404 if there is none."""
        return self.shelf.lend(name, visit_of(http))

    def language_model(self, name: str, http: Request) -> LanguageModel:
        """RequestError for an encoder."""
        model = self.model(name, http)
        if not isinstance(model, LanguageModel):
            raise _other_kind(f"{model.name} is an encoder, which writes no text", "POST /v1/embeddings")
        return model

    def text_encoder(self, name: str, http: Request) -> TextEncoder:
        """RequestError for a language model."""
        model = self.model(name, http)
        if not isinstance(model, TextEncoder):
            raise _other_kind(
                f"{model.name} writes text and gives no embeddings", "serve an encoder, such as all-MiniLM-L6-v2"
            )
        return model

    async def load(self, body: LoadBody, visit: Visit) -> dict[str, Any]:
        """The model object of a model that has just been loaded, one at a time."""
        visit.tenant.require(ADMIN)
        async with self._loading:
            visit.model = await asyncio.to_thread(load_onto, self.shelf, body, self.workspace, self.config)
        return self.shelf.describe(visit.model)[0]

    async def load_adapter(self, body: LoadAdapterBody, visit: Visit) -> str:
        """The name of an adapter that has just been loaded, one at a time."""
        visit.tenant.require(ADMIN)
        async with self._loading:
            found = await asyncio.to_thread(load_adapter_onto, self.shelf, body, self.workspace, self.config)
        visit.model = found
        return found

    async def unload_adapter(self, body: UnloadAdapterBody, visit: Visit) -> str:
        """The name of an adapter that nobody has any more. RequestError 404 for a name that is none of an adapter."""
        visit.tenant.require(ADMIN)
        body.refuse_unsupported()
        if body.lora_name not in self.shelf.adapters():
            message = f"no adapter {body.lora_name!r:.200}"
            raise RequestError(message, param="lora_name", code="model_not_found", status=404)
        await self.unload(body.lora_name, visit)
        return body.lora_name

    async def unload(self, name: str, visit: Visit) -> dict[str, Any]:
        """OpenAI's answer to the deletion of a model, when the last request that has it is over. RequestError 409, and
        the model stays, if that takes too long."""
        visit.tenant.require(ADMIN)
        gone = await asyncio.to_thread(self.shelf.remove, name)
        visit.model = name
        end = time.monotonic() + self.config.unload_seconds
        try:
            while not gone.is_set() and time.monotonic() < end:
                await asyncio.sleep(_LOOK_SECONDS)
        except asyncio.CancelledError:  # whoever asked has left
            self.shelf.keep(name, gone)
            raise
        if not gone.is_set() and self.shelf.keep(name, gone):
            raise RequestError(
                f"{name} is still in use after {self.config.unload_seconds:g} seconds, and stays",
                hint="try again when its requests are over",
                param="model",
                code="model_in_use",
                status=409,
            )
        return {"id": name, "object": "model", "deleted": True}

    def enter(self, http: Request, *, priority: int | None = None, timeout_seconds: float | None = None) -> Job:
        """A place in the waiting room; the visit goes on until the job's thread has ended. RequestError 429."""
        visit, most = visit_of(http), self.config.max_request_seconds
        seconds = most if timeout_seconds is None else min(timeout_seconds, most)
        job = self.room.enter(tenant=visit.tenant.name, priority=priority or 0, seconds=seconds)
        job.on_end(visit.hold())
        visit.works_while(lambda: job.working)
        return job

    def encode(self, model: LanguageModel, prompts: Sequence[Prompt], n: int) -> list[list[int]]:
        """Token ids of prompts; text of megabytes takes a while: not on the event loop."""
        self.check_choices(len(prompts), n)
        return [model.encode_prompt(prompt) for prompt in prompts]

    def check_choices(self, prompts: int, n: int) -> None:
        """RequestError for more choices than one request may ask for."""
        if prompts * n > self.config.max_choices:
            raise RequestError(
                f"{prompts} prompts with n={n} are more than {self.config.max_choices} choices", param="n"
            )

    def served(
        self,
        prefix: str,
        route: str,
        model: LanguageModel,
        prompts: list[list[int]],
        n: int,
        options: SamplingOptions,
        job: Job,
        visit: Visit,
        images: Sequence[Any] = (),
        continues: bool = True,
        body: CompletionBody | ChatBody | ResponsesBody | None = None,
    ) -> ServedRequest:
        """A request for text, ready to run. LimitReached for more tokens than the visit's key has left; RequestError
        for a look inside without the right to it."""
        inspect = body.inspect if body is not None else None
        if inspect is not None:
            visit.tenant.require(INSPECT)
            check_inspect(model, inspect, choices=len(prompts) * n)
        if options.get("ignore_eos") and options.get("constraint") is not None:
            message = "ignore_eos and a form of the answer exclude each other"
            raise RequestError(message, param="ignore_eos", code="invalid_value")
        beams = beams_of(body, options, images=bool(images)) if isinstance(body, Body) else None
        served = ServedRequest(
            id=new_id(prefix),
            route=route,
            model=model,
            prompts=prompts,
            n=n,
            options=options,
            images=images,
            job=job,
            visit=visit,
            continues=continues,
            best_of=body.best_of if isinstance(body, CompletionBody) else None,
            beams=beams,
            inspect=inspect,
            metrics=self.metrics,
            readers=self.readers,
        )
        visit.reserve(prompt=sum(map(len, prompts)), new=served.most_new_tokens)
        return served

    async def embed(self, work: Embedding, visit: Visit) -> bool:
        """Run an embedding to its end and write it into the books. ShuttingDown if the server ends before."""
        visit.reserve(prompt=work.prompt_tokens)
        visit.spend(prompt=work.prompt_tokens)
        status = 500
        try:
            async with aclosing(self.room.stream(work.job, work.run)) as batches:
                async for _ in batches:
                    pass
            status = 200 if len(work.vectors) == len(work.rows) else work.job.cut_status
        except asyncio.CancelledError:
            status = CANCELLED_STATUS
            raise
        except (DeadlinePassed, ShuttingDown) as error:
            status = error.status
            raise
        finally:
            # Not on the event loop: another process may hold the ledger's lock for a while.
            await asyncio.shield(asyncio.to_thread(self._write_down, work, status, visit))
        if status != 200:
            raise ShuttingDown
        return True

    def _write_down(self, work: Embedding, status: int, visit: Visit) -> None:
        name = work.model.name
        visit.spend_energy(work.energy)
        self.metrics.request(name, queue_seconds=work.job.queue_seconds, seconds=visit.seconds, failed=status == 500)
        if status == 200:
            self.metrics.embedded(name, prompt_tokens=work.prompt_tokens, seconds=work.seconds, joules=work.energy)
        record = Record(
            id=new_id("embd"),
            route=embeddings.ROUTE,
            model=name,
            tenant=visit.tenant.name,
            status=status,
            time=visit.began,
            seconds=visit.seconds,
            queue_seconds=work.job.queue_seconds,
            prompt_ids=work.rows,
            prefill_seconds=work.seconds,
            energy=work.energy,
            decode=lambda ids, special: work.model.tokenizer.decode(ids, skip_special=not special),
        )
        tell(self.readers, record)

    def close(self) -> None:
        """Cancel what runs, and let the models go."""
        self.room.close()
        self.shelf.clear()
        if self.store is not None:
            self.store.close()
        if self._traces is not None:
            self._traces.close()


def open_store(workspace: Workspace | None, config: ServeConfig) -> RequestStore | None:
    """As the config says; None for none. ConfigError without a workspace."""
    if config.store == "off":
        return None
    if workspace is None:
        raise ConfigError("a request store needs a workspace", hint="build_app(models, workspace=...)")
    return RequestStore(
        workspace.root / FILE,
        content=config.store == "content",
        max_rows=config.store_rows,
        max_days=config.store_days,
    )


def _other_kind(message: str, hint: str) -> RequestError:
    return RequestError(message, hint=hint, param="model", code="unsupported_model")
