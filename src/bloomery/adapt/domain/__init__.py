"""Domain-adaptive pre-training with replay, and what was forgotten by it."""

from bloomery.adapt.domain.adapt_domain import adapt_domain
from bloomery.adapt.domain.config import DomainConfig

__all__ = ["DomainConfig", "adapt_domain"]
