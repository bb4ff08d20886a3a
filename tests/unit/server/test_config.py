"""ServeConfig: a public address needs a key, numbers have limits."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.server.config import API_KEY_VARIABLE, ServeConfig


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.com", "127.0.0.1.example.com"])
def test_a_public_address_without_a_key_is_refused(host: str, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        ServeConfig(host=host)
    assert API_KEY_VARIABLE in caught.value.hint
    assert ServeConfig(host=host, api_key="k").api_key == "k"
    monkeypatch.setenv(API_KEY_VARIABLE, "from-environment")
    assert ServeConfig(host=host).api_key == "from-environment"
    with pytest.raises(ConfigError):
        ServeConfig(host=host, api_key="")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_loopback_needs_none(host: str):
    config = ServeConfig(host=host)
    assert config.is_loopback and config.allowed_hosts is not None and host in config.allowed_hosts


def test_a_wildcard_answers_any_host_for_a_key_guards_it():
    assert ServeConfig(host="0.0.0.0", api_key="k").allowed_hosts is None
    assert ServeConfig(host="models.lan", api_key="k").allowed_hosts == {"localhost", "127.0.0.1", "::1", "models.lan"}


@pytest.mark.parametrize(
    "values",
    [{"port": -1}, {"port": 65_536}, {"max_running": 0}, {"max_waiting": -1}, {"max_body_bytes": 0},
     {"max_json_depth": 0}, {"max_choices": 0}, {"default_chat_tokens": 0}, {"api_key": "two words"},
     {"store": "all"}, {"store_rows": 0}, {"store_days": 0}, {"store_days": float("nan")}, {"drift_window": -1},
     {"drift_window": 29}, {"api_key": "schl\xfcssel"}, {"api_key": "line\n"}],
    ids=str,
)  # fmt: skip
def test_wrong_values(values):
    with pytest.raises(ConfigError):
        ServeConfig(**values)
