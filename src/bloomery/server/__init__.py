"""The server: OpenAI's HTTP routes over the engine, every request's joules in the ledger."""

from bloomery.server.app import build_app
from bloomery.server.config import ServeConfig
from bloomery.server.serve import serve

__all__ = ["ServeConfig", "build_app", "serve"]
