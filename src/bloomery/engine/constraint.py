"""Constraint: which tokens may come next so that a text stays one that was asked for.

llguidance's automata work on the bytes of tokens, so one grammar serves every tokenizer whose tokens have bytes. A
mask holds exactly the tokens after which an allowed text can still be reached; an end token is in it only where the
text may end. Masks are computed outside Python's lock: `start()` them before a step of the model, and they are there
when the step is done.

A tokenizer of SentencePiece's kind drops one space at the start of a text; what is constrained is the text as it is
shown. This module does not know models, sampling or HTTP.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from bloomery.core.errors import DataError, RequestError
from bloomery.engine import grammar_trial
from bloomery.engine.constraint_spec import INVALID_CONSTRAINT, ConstraintSpec, spec_of
from bloomery.engine.grammar import grammar_of, takes_long
from bloomery.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

log = logging.getLogger("bloomery.engine")
MAX_COMPILE_SECONDS = 5
_MAX_COMPILE_BYTES = 2 * 1024**3
_MAX_TRIALS = 2
_CACHED_GRAMMARS = 64
_QUOTED = re.compile(r"\n\s*\d+ \| ")
_compilers: weakref.WeakKeyDictionary[Tokenizer, ConstraintCompiler] = weakref.WeakKeyDictionary()
_compilers_lock = threading.Lock()
_trials = threading.BoundedSemaphore(_MAX_TRIALS)


def constraint_for(
    spec: ConstraintSpec | Mapping[str, Any], tokenizer: Tokenizer, *, continues: bool = False
) -> Constraint:
    """A fresh constraint of one generation; the compiled grammar is kept for the next one.

    `continues`: the new text goes on from earlier text, so a space at its start counts (see `StreamDecoder`).
    RequestError (param "constraint") if the grammar cannot be compiled, or not in bearable time, or allows no text.
    """
    with _compilers_lock:
        compiler = _compilers.get(tokenizer)
        if compiler is None:
            compiler = _compilers[tokenizer] = ConstraintCompiler(tokenizer)
    return compiler.compile(spec_of(spec), continues=continues)


class ConstraintCompiler:
    """Compiles for one tokenizer, from any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # What is cached by tokenizer may not hold the tokenizer, or neither would ever go away.
        self._tokenizer = weakref.ref(tokenizer)
        self._grammars: OrderedDict[str, tuple[LLMatcher, LLMatcher | None]] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, spec: ConstraintSpec, *, continues: bool = False) -> Constraint:
        """See `constraint_for`."""
        tokenizer = self._tokenizer()
        assert tokenizer is not None
        grammar = grammar_of(spec, tokenizer)
        with self._lock:
            vocabulary = self.vocabulary
            compiled = self._grammars.get(grammar)
            if compiled is not None:
                self._grammars.move_to_end(grammar)
        if compiled is None:
            if takes_long(spec):
                _try(grammar, tokenizer)
            first = _compiled(vocabulary.first_words, grammar) if vocabulary.strips_space else None
            compiled = (_compiled(vocabulary.words, grammar), first)
            with self._lock:
                self._grammars[grammar] = compiled
                if len(self._grammars) > _CACHED_GRAMMARS:
                    self._grammars.popitem(last=False)
        matcher, first = compiled
        return Constraint(matcher.deep_copy(), vocabulary, first=None if continues else first)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        tokenizer = self._tokenizer()
        assert tokenizer is not None
        return Vocabulary(tokenizer)


class Vocabulary:
    """A tokenizer's tokens as bytes, in llguidance's tries. `size` is the length of masks."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """RequestError for a tokenizer whose tokens have no bytes of their own."""
        self._tokenizer = weakref.ref(tokenizer)
        self.size = tokenizer.vocab_size
        self.strips_space = tokenizer.strips_leading_space
        self._special = {index: tokenizer.token_text(index).encode() for index in tokenizer.special_ids}
        try:
            self.tokens = [self._special.get(i) or tokenizer.token_bytes(i) for i in range(self.size)]
        except DataError as error:
            raise RequestError(
                "the tokenizer of this model cannot be constrained: its tokens have no bytes",
                param="constraint",
                code="unsupported_parameter",
            ) from error
        self.eos_ids = [i for i in tokenizer.eos_ids if i < self.size]
        self.words = self._trie(self.tokens)

    @cached_property
    def first_words(self) -> LLTokenizer:
        """The tokens as the first of a text, without the space that decoding drops."""
        return self._trie([one if i in self._special else one.removeprefix(b" ") for i, one in enumerate(self.tokens)])

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special

    @cached_property
    def spaces(self) -> list[int]:
        """Tokens of which nothing is left at the start of a text."""
        return [index for index, token in enumerate(self.tokens) if token == b" "]

    def spell(self, text: str) -> list[int]:
        """Tokens whose bytes make up a text: as the tokenizer spells it, or the longest first where that would put a
        space in front."""
        tokenizer = self._tokenizer()
        ids = tokenizer.encode(text) if tokenizer is not None else []
        if b"".join(self.tokens[index] for index in ids) == text.encode():
            return ids
        return list(self.words.greedy_tokenize(text))

    def _trie(self, tokens: list[bytes]) -> LLTokenizer:
        from llguidance import LLTokenizer

        eos_ids = self.eos_ids
        if not eos_ids:  # llguidance needs one: a token that the model does not have
            tokens, eos_ids = [*tokens, b"<eos>"], [self.size]
        words = _Words(tokens, sorted({*self._special, *eos_ids}), eos_ids[0], self.spell)
        return LLTokenizer(words, n_vocab=len(tokens), eos_token=eos_ids)  # type: ignore[arg-type]  # of the same form


class _Words:
    """What llguidance asks of a tokenizer."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokens: list[bytes], special: list[int], eos_id: int, spell: Callable[[str], list[int]]) -> None:
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = eos_id
        self._spell = spell

    def __call__(self, text: str) -> list[int]:
        return self._spell(text)


class Constraint:
    """One generation's place in a grammar. Not for several threads at once, but `start` may run beside the model."""

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary, *, first: LLMatcher | None = None) -> None:
        """`first`: the same grammar over `first_words`, where decoding drops a space at the start."""
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._first = first
        self._read: list[int] = []  # tokens of the matcher for each token of the text
        self._mask: torch.Tensor | None = None
        self._coming: Future[torch.Tensor] | None = None

    @property
    def finished(self) -> bool:
        """Nothing can follow: the text is complete, or an end token was read."""
        self._settle()
        return bool(self._matcher.is_stopped())

    @property
    def may_stop(self) -> bool:
        """The text so far is one of those that were asked for."""
        self._settle()
        return bool(self._matcher.is_accepting())

    def start(self) -> None:
        """Begin to compute the next mask in another thread; `allowed` waits for it."""
        if self._mask is None and self._coming is None and not self._matcher.is_stopped():
            self._coming = _workers().submit(self._compute)

    def allowed(self) -> torch.Tensor:
        """bool (V,), V the tokenizer's vocabulary: the tokens that may come next. RequestError if there is none, or the
        grammar has grown too ambiguous to go on."""
        self._settle()
        if self._mask is None:
            self._mask = self._compute()
        return self._mask

    def advance(self, token_id: int) -> None:
        """Read a token, one of `allowed`. RequestError for any other."""
        self._settle()
        ids = self._spelled(token_id)
        if ids and not self._matcher.consume_tokens(ids):
            self._fail()
        self._read.append(len(ids))
        self._mask = None

    def rollback(self, count: int) -> None:
        """Take back the last `count` tokens, as after a draft that was not accepted."""
        self._settle()
        if not 0 <= count <= len(self._read):
            raise ValueError(f"cannot take back {count} of {len(self._read)} tokens")
        taken = self._read[len(self._read) - count :]
        if sum(taken) and not self._matcher.rollback(sum(taken)):
            self._fail()
        del self._read[len(self._read) - count :]
        self._mask = None

    def forced(self) -> list[int]:
        """Tokens that spell what must come next whatever the model says, maybe none. Reading them saves the model's
        steps; which tokens spell that text is then not the model's choice any more."""
        self._settle()
        if self._at_start:
            return []
        self._matcher.compute_ff_bytes()  # what follows spells what this finds
        return [i for i in self._matcher.compute_ff_tokens() if i < self._vocabulary.size]

    def fork(self) -> Constraint:
        """An independent copy at the same place."""
        self._settle()
        other = Constraint(self._matcher.deep_copy(), self._vocabulary, first=self._first)
        other._read, other._mask = list(self._read), self._mask
        return other

    def _settle(self) -> None:
        """The matcher is not to be touched while a mask is computed."""
        if self._coming is not None:
            coming, self._coming = self._coming, None
            self._mask = coming.result()

    @property
    def _at_start(self) -> bool:
        return self._first is not None and not self._read

    def _spelled(self, token_id: int) -> list[int]:
        """A token as the matcher reads it: without the space that decoding drops at the start."""
        token = self._vocabulary.tokens[token_id]
        if self._at_start and token.startswith(b" ") and not self._vocabulary.is_special(token_id):
            return self._vocabulary.spell(token[1:].decode())
        return [token_id]

    def _compute(self) -> torch.Tensor:
        matcher, size = self._matcher, self._vocabulary.size
        if self._at_start and self._first is not None:
            matcher = self._first.deep_copy()  # several generations share it
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.unpackbits(bits, count=size, bitorder="little").astype(bool)
        if matcher.is_error():
            self._fail(matcher)
        if not mask.any() and not matcher.is_accepting():
            _refuse("no token of this model goes on with what the constraint allows")
        if self._at_start:
            mask[self._vocabulary.spaces] = True
        return torch.from_numpy(mask)

    def _fail(self, matcher: LLMatcher | None = None) -> NoReturn:
        _refuse(f"the constraint cannot go on: {_one_line((matcher or self._matcher).get_error())}")


def _compiled(words: LLTokenizer, grammar: str) -> LLMatcher:
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(max_items_in_row=grammar_trial.MAX_ITEMS_IN_ROW, verbose_errors=False)
    try:
        matcher = LLMatcher(words, grammar, log_level=0, limits=limits)
        error = matcher.get_error()
        if not error:
            first = matcher.deep_copy()
            if not any(first.compute_bitmask()) or first.is_error():
                error = "it allows no text"
    except Exception:
        raise
    except BaseException as panic:  # the library's own
        if type(panic).__name__ != "PanicException":
            raise
        _refuse("the constraint cannot be compiled: its compiler failed")
    if error:
        _refuse_compiling(error)
    return matcher


def _try(grammar: str, tokenizer: Tokenizer) -> None:
    """Compile in a process that can be ended. RequestError if that fails or takes too long."""
    request = {
        "path": sys.path,
        "grammar": grammar,
        "vocab_size": tokenizer.vocab_size,
        "special": {index: tokenizer.token_text(index) for index in tokenizer.special_ids},
        "memory_bytes": _MAX_COMPILE_BYTES,
        "seconds": 2 * MAX_COMPILE_SECONDS,
    }
    command = [sys.executable, "-I", str(Path(grammar_trial.__file__))]
    if not _trials.acquire(timeout=2 * MAX_COMPILE_SECONDS):
        raise RequestError("too many constraints are being compiled", hint="try again in a moment", status=503)
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=MAX_COMPILE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        _refuse(f"the constraint takes longer than {MAX_COMPILE_SECONDS} seconds to compile")
    finally:
        _trials.release()
    if done.returncode != 0:
        log.warning("compiling a constraint ended with %s: %s", done.returncode, _one_line(done.stderr[-500:]))
        _refuse("the constraint cannot be compiled: it takes too much memory, or its compiler failed")
    if error := json.loads(done.stdout)["error"]:
        _refuse_compiling(error)


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="constraint")


def _refuse_compiling(error: str) -> NoReturn:
    if error.startswith("oneOf constraints are not supported"):
        error = "oneOf needs alternatives that cannot both hold, as with a property of different const texts"
    _refuse(f"the constraint cannot be compiled: {_one_line(error)}")


def _one_line(text: str) -> str:
    """The library's message without the lines of the grammar that it quotes."""
    return " ".join(_QUOTED.split(text, maxsplit=1)[0].split())[:300]


def _refuse(what: str) -> NoReturn:
    raise RequestError(what, param="constraint", code=INVALID_CONSTRAINT)
