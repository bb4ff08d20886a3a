"""PersonalConfig: what is done with each kind of personal data. This module finds none."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from bloomery.core.errors import ConfigError

PERSONAL_VERSION = "personal 1"  # raised when what is found or put in its place changes
Action = Literal["keep", "drop", "mask", "replace"]


@dataclass(frozen=True, kw_only=True)
class PersonalConfig:
    """Each kind is kept, or its document dropped, or the value masked (`<email>`), or replaced by one of the same
    shape: the same value by the same replacement throughout a corpus."""

    all: Action = "keep"
    """For every kind that says "keep" below."""
    email: Action = "keep"
    """Addresses of mail, but those of example domains (RFC 2606)."""
    ip: Action = "keep"
    """Public IPv4 and IPv6 addresses; private, documentation and other reserved ones are nobody's."""
    phone: Action = "keep"
    """Telephone numbers with a country code, or as written in North America and Europe."""
    card: Action = "keep"
    """Payment cards, by issuer, length and Luhn digit."""
    iban: Action = "keep"
    """Bank accounts by country, length and check digits modulo 97."""
    national_id: Action = "keep"
    """Numbers of persons: US, GB, DE, FR, ES, IT, IN, BR, NL, PL, CA, each by its check digit where it has one."""
    secret: Action = "keep"
    """Private keys, tokens of web services, passwords in URLs, JSON web tokens."""
    seed: int = 0
    """Replacements depend on it and on the value: another seed gives others."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f'"seed" is {self.seed}, but should be from 0 to 2**63')

    @property
    def actions(self) -> dict[str, Action]:
        """What is done with each kind, but those kept."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("all", "seed")}
        return {
            kind: self.all if does == "keep" else does
            for kind, does in found.items()
            if (does, self.all) != ("keep", "keep")
        }

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.actions)
