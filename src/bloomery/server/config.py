"""ServeConfig: where the server listens, who may ask, and how much.

This module does not know HTTP.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from bloomery.core.errors import ConfigError, nearest
from bloomery.engine import EngineConfig
from bloomery.engine.scheduler import SchedulerConfig

API_KEY_VARIABLE = "BLOOMERY_API_KEY"
MIN_DRIFT_WINDOW = 30
"""With fewer values, chance looks like drift."""
STORES = ("off", "metadata", "content")
_WILDCARDS = ("0.0.0.0", "::", "")
_FROM_ONE = (
    *("max_running", "retry_after_seconds", "max_body_bytes", "max_json_depth", "max_choices"),
    *("audit_log_bytes", "audit_log_files", "max_models", "max_adapters", "store_rows"),
)


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Raises ConfigError for a value out of range, or for a public address without a key."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs an API key."""
    port: int = 8000
    """0 takes a free one."""
    api_key: str | None = None
    """The key that every request must carry as a bearer token; None reads $BLOOMERY_API_KEY, "" is no key."""
    weights: str | None = None
    """What the linear layers compute in: "auto", "plain", "float16", "int8", "int4", ...; None: as the file is."""
    drafts: str = "off"
    """"ngram" guesses tokens from the text itself: faster where it repeats, and the same texts."""
    draft_model: str = ""
    """A smaller model with the same tokenizer, by name or folder, that guesses tokens of the first language model: its
    keys and values, of each text that is written, come on top of `cache_tokens`. Or extra heads of that model, by name
    (`bloomery adapt --method heads`)."""
    cache_tokens: int | None = None
    """Positions of key/value memory of each model; None: see the engine."""
    cache_dtype: str = "auto"
    """Keys and values: "auto", "float16", or "int8": a quarter of float32's memory, and a little loss."""
    prefix_cache: bool = True
    """Remember what was read for prompts of the same key that begin alike."""
    prefer: str = "speed"
    """"energy": the threads that decode with the fewest joules a token, measured when a model is first asked."""
    static_steps: str = "off"
    """"graph" records decode steps as CUDA graphs, "compile" compiles them; see `EngineConfig`."""
    keys: str = ""
    """A file of several keys, each with a name, rights and limits (see `keys`); "" is none."""
    audit_log: str | None = None
    """Where who asked what is written; None: audit.jsonl in the workspace, "" nowhere."""
    audit_log_bytes: int = 16 * 1024 * 1024
    """Size at which a new file of the audit log is begun."""
    audit_log_files: int = 8
    """Files of the audit log that are kept."""
    store: str = "off"
    """What is kept of requests in the workspace, to be searched: "metadata" is who, when, how much and what it took;
    "content" prompts and answers too."""
    store_rows: int = 100_000
    """Requests that are kept, at most."""
    store_days: float = 30.0
    """How long they are kept."""
    drift_window: int = 500
    """Prompts and answers of a model that are compared with the first as many (see `drift`); 0: no watch."""
    otlp_endpoint: str = ""
    """Where traces are sent, over OTLP/HTTP: http://localhost:4318/v1/traces; "" nowhere."""
    otlp_content: bool = False
    """Prompts and answers in traces too."""
    upstream: str = ""
    """With the engine vllm: a server on loopback that runs already, http://127.0.0.1:8001; "" starts one."""
    vllm_args: tuple[str, ...] = ()
    """Further arguments of `vllm serve`."""
    vllm_restarts: int = 3
    """How often in an hour a vLLM process that has ended or answers no more is started again."""
    vllm_start_seconds: float = 1800.0
    """How long it may take to load its model."""
    model_folders: tuple[str, ...] = ()
    """Folders whose models may be loaded at run time, beside those of the workspace."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters of the first language model, "name=folder" each, served as models of these names."""
    max_models: int = 16
    """Models that are served at the same time."""
    max_adapters: int = 64
    """Adapters that are served at the same time, of all models together."""
    unload_seconds: float = 30.0
    """How long the deletion of a model waits for the requests that have it."""
    max_running: int = 32
    """Requests that are generated at the same time, in one batch."""
    max_waiting: int = 128
    """Requests that may wait; one more is answered with 429."""
    max_waiting_of_key: int | None = None
    """Of one key; None: a quarter of them where there are several keys, else all."""
    max_request_seconds: float = 3600.0
    """How long a request may take, at most; its own `timeout_seconds` may be less."""
    retry_after_seconds: int = 1
    """What a refused client is told to wait."""
    max_body_bytes: int = 8 * 1024 * 1024
    """Larger bodies are refused with 413 before they are read."""
    max_json_depth: int = 32
    """Deeper JSON is refused."""
    max_choices: int = 128
    """Prompts times `n` of one request, at most."""
    default_chat_tokens: int = 1024
    """New tokens of a chat answer when the request does not say."""
    body_timeout_seconds: float = 30.0
    """How long a client may take to send its body."""
    shutdown_seconds: float = 10.0
    """How long running requests may go on after SIGINT or SIGTERM."""

    def __post_init__(self) -> None:
        if self.api_key is None:
            object.__setattr__(self, "api_key", os.environ.get(API_KEY_VARIABLE) or "")
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port {self.port} is not from 0 to 65535", hint="give another: --port 8000")
        for name in _FROM_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} should be at least 1, not {getattr(self, name)}")
        if self.draft_model and self.drafts != "off":
            raise ConfigError("tokens are guessed by a model or by n-grams", hint="leave drafts or draft_model out")
        if self.store not in STORES:
            raise ConfigError(f"unknown store {self.store!r}", hint=nearest(self.store, STORES))
        if self.drift_window < 0 or 0 < self.drift_window < MIN_DRIFT_WINDOW:
            raise ConfigError(f"drift_window should be 0 or at least {MIN_DRIFT_WINDOW}, not {self.drift_window}")
        for name in ("store_days", "max_request_seconds", "unload_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} should be more than 0, not {getattr(self, name)}")
        if self.max_waiting_of_key is not None and self.max_waiting_of_key < 0:
            raise ConfigError("max_waiting_of_key should be at least 0")
        if self.max_waiting < 0 or self.default_chat_tokens < 1:
            raise ConfigError("max_waiting should be at least 0 and default_chat_tokens at least 1")
        _ = self.engine  # a ConfigError now, not when a model is loaded
        if not self.is_loopback and not self.needs_key:
            raise ConfigError(
                f"serving on {self.host or 'every address'} without a key would let anyone use the model",
                hint=f"set {API_KEY_VARIABLE}, give --keys FILE, or listen on 127.0.0.1",
            )
        if self.api_key and not all(33 <= ord(c) <= 126 for c in self.api_key):
            raise ConfigError("an API key has printable ASCII characters only, and no space")

    @property
    def needs_key(self) -> bool:
        """Whether nobody is answered without a key."""
        return bool(self.api_key or self.keys)

    @property
    def waiting_of_key(self) -> int:
        """How many requests of one key may wait."""
        if self.max_waiting_of_key is not None:
            return min(self.max_waiting_of_key, self.max_waiting)
        return -(-self.max_waiting // 4) if self.keys else self.max_waiting

    @property
    def engine(self) -> EngineConfig:
        """How each language model's engine is set up."""
        return EngineConfig(
            drafts=self.drafts,
            cache_tokens=self.cache_tokens,
            cache_dtype=self.cache_dtype,
            prefix_cache=self.prefix_cache,
            prefer=self.prefer,
            static_steps=self.static_steps,
            scheduler=SchedulerConfig(max_running=max(64, self.max_running)),
        )

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def allowed_hosts(self) -> frozenset[str] | None:
        """Host header names that are answered (against DNS rebinding); None: any, for a key guards the server."""
        if self.host in _WILDCARDS:
            return None
        return frozenset({"localhost", "127.0.0.1", "::1", self.host.lower()})
