"""SearchOptions: the flags of `bloomery generate` that ask for several texts, or for rarer sampling parameters. This
module does not know how they are found."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.engine import LanguageModel


@Parameter(name="*")
@dataclass(kw_only=True)
class SearchOptions:
    """How many texts, and how they are looked for."""

    samples: Annotated[int, Parameter(help="Texts for the prompt, which is read once.")] = 1
    best_of: Annotated[int | None, Parameter(help="Draw so many, and print those whose tokens are likeliest.")] = None
    beams: Annotated[int | None, Parameter(help="Search with so many beams instead of drawing.")] = None
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            negative=(),
            help="Another sampling parameter, such as repetition_penalty=1.2 or typical_p=0.9. May be repeated.",
        ),
    ] = None

    @property
    def several(self) -> bool:
        """Whether anything but one drawn text is asked for."""
        return self.samples != 1 or self.best_of is not None or self.beams is not None

    def parameters(self) -> dict[str, Any]:
        """What `--set` gives. ConfigError for what is no `name=value`."""
        found: dict[str, Any] = {}
        for item in self.set_ or ():
            name, equals, value = item.partition("=")
            if not equals or not name.strip().isidentifier():
                raise ConfigError(f"--set {item!r:.60} is no name=value", hint="--set repetition_penalty=1.2")
            try:
                found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
            except tomllib.TOMLDecodeError:
                found[name.strip()] = value
        return found

    def texts(self, model: LanguageModel, prompt: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        """The texts that were found, the best first where there is a best, each with its log-probability."""
        if self.beams is not None:
            found = model.beam_search(prompt, beams=self.beams, max_new_tokens=options["max_new_tokens"])
            return [
                {"text": b.text, "token_ids": b.token_ids, "logprob": b.logprob, "finish_reason": b.finish_reason}
                for b in found[: max(self.samples, 1) if self.samples != 1 else len(found)]
            ]
        results = model.samples(prompt, self.samples, best_of=self.best_of, **options)
        return [
            {
                "text": r.text,
                "token_ids": r.token_ids,
                "logprob": sum(r.logprobs),
                "finish_reason": r.finish_reason,
                "seed": r.seed,
                "energy_joules": r.energy.to_dict(),
            }
            for r in results
        ]
