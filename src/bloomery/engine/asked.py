"""Asked: what every loaded model shares: how it answers a method that it does not have, and what is no text.

This module does not know what any one model computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bloomery.core.errors import RequestError

METHODS = (
    *("generate", "stream", "samples", "beam_search", "logits", "next_token", "translate"),
    *("classify", "value", "tag", "fill", "zero_shot", "embed", "embed_images", "embed_texts", "hidden_states"),
)
"""What some loaded model can be asked. Any other name that is missing is a plain AttributeError."""
MAX_TEXT_CHARACTERS = 10_000_000


class NoSuchMethodError(RequestError, AttributeError):
    """Another kind of model has this method. An AttributeError too, so that `hasattr` says what it always says."""


class Asked:
    """Base of what `load` gives."""

    name: str

    def what(self) -> str:
        """What this model is, in words."""
        raise NotImplementedError

    def can(self) -> tuple[str, ...]:
        """The methods that it answers, the most telling one first; its head may leave some out."""
        return tuple(method for method in METHODS if hasattr(type(self), method))

    def cannot(self, method: str) -> NoSuchMethodError:
        """The error for a method that this model does not answer."""
        return NoSuchMethodError(
            f"{self.name} is {self.what()}: it has no {method}", hint="it has " + ", ".join(self.can())
        )

    if not TYPE_CHECKING:  # a type checker still sees which class has what

        def __getattr__(self, name: str) -> Any:
            """Only reached for what is not there."""
            if name in METHODS:
                raise self.cannot(name)
            return object.__getattribute__(self, name)  # raises what it raised: a property's own error too


def one_text(text: object, *, param: str = "text", most: int = MAX_TEXT_CHARACTERS) -> str:
    """A text as it is; RequestError for what is none, or longer than `most` characters."""
    if not isinstance(text, str):
        raise RequestError(f"a text is a string, not {type(text).__name__}", param=param)
    if len(text) > most:
        raise RequestError(f"a text of {len(text):,} characters is too long", param=param)
    return text
