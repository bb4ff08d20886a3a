"""GlassBox: a model with its tokenizer to look into. Text in, numbers out.

Attention of a chosen layer, head and query; token distributions; the logit lens; embedding neighbours; head scores. The
model runs as it serves (see `models.inside`). This module does not know terminals, pictures or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bloomery.core.errors import DataError, RequestError
from bloomery.engine.glass_views import (
    AttentionView,
    GridView,
    Guess,
    HeadAt,
    HeadsView,
    KeyRow,
    LensLayer,
    LensView,
    Neighbour,
    NeighboursView,
    Place,
    TokenAt,
    TokensView,
)
from bloomery.engine.language_model import distribution
from bloomery.engine.params import SamplingParams
from bloomery.engine.text_encoder import TextEncoder
from bloomery.models import Decoder
from bloomery.models.embeddings import embedding_of, neighbours, plane
from bloomery.models.encoder import Encoder
from bloomery.models.head_scores import head_statistics, induction_scores
from bloomery.models.image_processor import Picture
from bloomery.models.inside import GRID_LIMIT, AttentionLook, Look, Row, SourceLook, capture, grid, stacks
from bloomery.models.lens import lens, residuals
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq
from bloomery.tokenizer import Tokenizer

MAX_TOKENS = 4096
"""Tokens of a text that are looked into at most."""
_INDUCTION_LENGTH = 32


class GlassBox:
    """See the module. A text's tokens are those that the model would be served with."""

    def __init__(
        self,
        model: Decoder | Encoder | Seq2Seq | RecurrentSeq2Seq,
        tokenizer: Tokenizer,
        *,
        name: str,
        target_tokenizer: Tokenizer | None = None,
    ) -> None:
        """`target_tokenizer` where an encoder-decoder writes with another one than it reads with."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.target_tokenizer = target_tokenizer or tokenizer
        self.name = name

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def attention(
        self,
        text: str | Sequence[int],
        *,
        target: str | None = None,
        cross: bool = False,
        layer: int = -1,
        head: int = 0,
        query: int = -1,
        vectors: bool = False,
        image: Picture | None = None,
        grid_limit: int = GRID_LIMIT,
    ) -> AttentionView:
        """One head. Numbers below 0 count from the end. RequestError for a place that is not there. `text` may be token
        ids as the model was served them.

        Of an encoder-decoder: the encoder's, with a `target` the decoder's, with `cross` the decoder's over the text.
        `vectors` adds the keys themselves. Pictures are for `glass_box_images`.
        """
        if image is not None:
            raise RequestError(f"{self.name} reads no pictures", hint="leave --image out", param="image")
        ids, targets = self._encode(text), self._encode_target(target)
        cross = cross or isinstance(self.model, RecurrentSeq2Seq)  # it has no other
        stack, names = self._stack(cross, targets)
        number = place_of("layer", layer, len(names))
        with capture(self.model, [names[number]]) as looks:
            self._run(ids, targets)
        look = looks[names[number]]
        asking = self._tokens(targets, self.target_tokenizer) if targets is not None else self._tokens(ids)
        seen = self._tokens(ids) if cross or targets is None else asking
        place = Where(model=self.name, stack=stack, layer=number, layers=len(names), head=head, query=query)
        return view_of(look, place, asking, seen, vectors=vectors, grid_limit=grid_limit)

    @torch.inference_mode()
    def heads(self, text: str, *, target: str | None = None) -> HeadsView:
        """Entropy and previous-token score of every self-attention head on a text; induction on random tokens."""
        if isinstance(self.model, RecurrentSeq2Seq):
            raise RequestError(f"{self.name} has no self-attention", hint="look at its attention over a source")
        ids, targets = self._encode(text), self._encode_target(target)
        stack, names = self._stack(False, targets)
        with capture(self.model, names) as looks:
            self._run(ids, targets)
        found = [head_statistics(looks[name]) for name in names]
        induction = None
        if isinstance(self.model, Decoder):
            length = min(_INDUCTION_LENGTH, (self.model.context_length - 1) // 2, self.model.config.vocab_size)
            first = [self.tokenizer.bos_id] if self.tokenizer.adds_bos and self.tokenizer.bos_id is not None else []
            if length > 1:
                scores = induction_scores(self.model, length=length, first_tokens=first)
                induction = tuple(_numbers(layer) for layer in scores)
        return HeadsView(
            model=self.name,
            stack=stack,
            tokens=self._tokens(targets, self.target_tokenizer) if targets is not None else self._tokens(ids),
            entropy=tuple(_numbers(one.entropy) for one in found),
            previous=tuple(_numbers(one.previous) for one in found),
            induction=induction,
        )

    @torch.inference_mode()
    def tokens(
        self, text: str, *, target: str | None = None, top: int = 10, params: SamplingParams | None = None
    ) -> TokensView:
        """The next token of a text (of the `target`, for an encoder-decoder), or each blank of a masked model."""
        ids, targets = self._encode(text), self._encode_target(target if target is not None else self._no_target())
        params, tokenizer = params or SamplingParams(), self.target_tokenizer
        _positive("top", top)
        if isinstance(self.model, Encoder):
            rows = self._blanks(ids)
        elif isinstance(self.model, Decoder):
            rows = {len(ids): self.model(self._batch(ids), last_only=True)[0, -1]}
        else:
            assert targets is not None
            rows = {len(targets): self.model(self._batch(ids), self._batch(targets))[0, -1]}
        places = []
        for index, row in rows.items():
            found = distribution(row.float().cpu(), params, tokenizer, top=top)
            named = (replace(one, text=token_label(tokenizer, one.token_id)) for one in found)
            places.append(Place(index=index, candidates=tuple(named)))
        tokens = self._tokens(ids) if targets is None else self._tokens(targets, tokenizer)
        return TokensView(model=self.name, tokens=tokens, places=tuple(places))

    def _blanks(self, ids: list[int]) -> dict[int, Tensor]:
        """Logits (V,) at each blank."""
        assert isinstance(self.model, Encoder)
        if self.model.config.head != "masked" or self.tokenizer.mask_id is None:
            raise RequestError(f"{self.name} does not fill blanks", hint="load a masked language model")
        places = [index for index, one in enumerate(ids) if one == self.tokenizer.mask_id]
        if not places:
            blank = self.tokenizer.token_text(self.tokenizer.mask_id)
            raise RequestError(f"the text has no blank; write {blank}", param="text")
        hidden = self.model.hidden_states(self._batch(ids))[0]
        return {index: self.model.logits(hidden[index]) for index in places}

    @torch.inference_mode()
    def lens(self, text: str, *, target: str | None = None, position: int = -1, top: int = 5) -> LensView:
        """What the model would say at a position after each of its layers."""
        ids, targets = self._encode(text), self._encode_target(target if target is not None else self._no_target())
        tokenizer = self.target_tokenizer
        _positive("top", top)
        with residuals(self.model) as found:
            self._run(ids, targets)
        tokens = self._tokens(ids) if targets is None else self._tokens(targets, tokenizer)
        place = place_of("position", position, len(tokens))
        known = min(tokenizer.vocab_size, embedding_of(self.model).size(0))
        rows = [lens(self.model, one[0, place]).float().log_softmax(dim=-1)[:known] for one in found]
        answer = int(rows[-1].argmax())
        layers = []
        for number, row in enumerate(rows):
            best = row.topk(min(top, known))
            layers.append(
                LensLayer(
                    layer=number - 1,
                    entropy=float(torch.special.entr(row.exp()).sum()),
                    answer_rank=1 + int((row > row[answer]).sum()),
                    answer_logprob=float(row[answer]),
                    guesses=tuple(
                        Guess(token_id=i, text=token_label(tokenizer, i), logprob=value)
                        for i, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                    ),
                )
            )
        return LensView(model=self.name, tokens=tokens, position=tokens[place], layers=tuple(layers))

    @torch.inference_mode()
    def neighbours(self, token: str | int, *, top: int = 10) -> NeighboursView:
        """The nearest tokens by cosine in the input embedding. A text has to be one token; a number is its id."""
        index = token if isinstance(token, int) else self._one_token(token)
        embedding = embedding_of(self.model)
        size = min(embedding.size(0), self.tokenizer.vocab_size)
        if not 0 <= index < size:
            raise RequestError(f"token id {index} is outside the vocabulary of {size:,}", param="token")
        ids, cosines = neighbours(embedding[:size], index, top=top)
        shown = [index, *ids.tolist()]
        places = plane(embedding[shown]).tolist()
        found = [
            Neighbour(token_id=i, text=token_label(self.tokenizer, i), cosine=cosine, x=x, y=y)
            for i, cosine, (x, y) in zip(shown, [1.0, *cosines.tolist()], places, strict=True)
        ]
        return NeighboursView(
            model=self.name,
            token_id=index,
            text=found[0].text,
            vector=_numbers(embedding[index]),
            tokens=tuple(found),
        )

    def _one_token(self, text: str) -> int:
        ids = self.tokenizer.encode(text)
        if len(ids) == 1:
            return ids[0]
        parts = ", ".join(f"{i} {token_label(self.tokenizer, i)!r}" for i in ids[:8]) or "none"
        raise RequestError(f"{text!r:.60} is {len(ids)} tokens: {parts}", hint="give one of their ids", param="token")

    def _encode(self, text: str | Sequence[int]) -> list[int]:
        model = self.model
        if not isinstance(text, str):
            return self._checked(list(text), "text", embedding_of(model).size(0))
        if isinstance(model, Encoder):
            ids = TextEncoder(model, self.tokenizer, name=self.name).encode_blanks(text)
        elif isinstance(model, Decoder):
            ids = self.tokenizer.encode(text, add_bos=self.tokenizer.adds_bos)
        else:
            ids = model.source_ids(self.tokenizer.encode(text))
        return self._checked(ids, "text", embedding_of(model).size(0))

    def _encode_target(self, text: str | None) -> list[int] | None:
        if text is None:
            return None
        model = self.model
        if isinstance(model, Decoder | Encoder):
            raise RequestError(f"{self.name} has no target", hint="encoder-decoders have", param="target")
        start, config = model.start_token_id, model.config
        size = config.target_vocab_size if isinstance(config, RecurrentConfig) else config.vocab_size
        ids = self.target_tokenizer.encode(text)
        return self._checked([start, *(ids[1:] if ids[:1] == [start] else ids)], "target", size)

    def _no_target(self) -> str | None:
        return None if isinstance(self.model, Decoder | Encoder) else ""

    def _checked(self, ids: list[int], what: str, vocabulary: int) -> list[int]:
        limit = min(MAX_TOKENS, getattr(self.model, "context_length", MAX_TOKENS))
        if not ids:
            raise RequestError(f"the {what} has no tokens", hint="give some text", param=what)
        if len(ids) > limit:
            message = f"the {what} has {len(ids):,} tokens, and {limit:,} are the most that can be looked into"
            raise RequestError(message, hint="shorten it", param=what, code="context_length_exceeded")
        if max(ids) >= vocabulary:
            raise RequestError(f"token id {max(ids)} is outside the model's vocabulary of {vocabulary:,}", param=what)
        return ids

    def _stack(self, cross: bool, targets: list[int] | None) -> tuple[str, list[str]]:
        """The attentions that are meant, by the stack's name."""
        known = stacks(self.model)
        if not known:
            raise RequestError(f"{self.name} has no attention", hint="look at its tokens or neighbours")
        if not cross:
            inner = [name for name in known if not name.endswith("cross_attn")]
            chosen = inner[0] if targets is None else inner[-1]
            return chosen, known[chosen]
        for name in known:
            if name.endswith("cross_attn") or isinstance(self.model, RecurrentSeq2Seq):
                if targets is None:
                    raise RequestError("cross attention is asked by a target", hint="add --target TEXT", param="target")
                return name, known[name]
        raise RequestError(f"{self.name} has no cross attention", hint="encoder-decoders have", param="cross")

    def _run(self, ids: list[int], targets: list[int] | None) -> None:
        batch = self._batch(ids)
        if isinstance(self.model, Decoder | Encoder):
            self.model.hidden_states(batch)
        elif targets is not None:
            self.model(batch, self._batch(targets))
        elif isinstance(self.model, Seq2Seq):
            self.model.encode(batch)

    def _batch(self, ids: list[int]) -> Tensor:
        return torch.tensor([ids], device=self.device)

    def _tokens(self, ids: list[int], tokenizer: Tokenizer | None = None) -> tuple[TokenAt, ...]:
        source = tokenizer or self.tokenizer
        return tuple(TokenAt(index=n, token_id=i, text=token_label(source, i)) for n, i in enumerate(ids))


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which head of which attention, and which query."""

    model: str
    stack: str
    layer: int
    layers: int
    head: int
    query: int


def view_of(
    look: Look,
    at: Where,
    asking: tuple[TokenAt, ...],
    seen: tuple[TokenAt, ...],
    *,
    vectors: bool,
    grid_limit: int = GRID_LIMIT,
) -> AttentionView:
    """The view of one head: `asking` are what looks, `seen` what is looked at. RequestError for a head or query that
    is not there."""
    _, heads, length, _ = look.shape
    head, query = place_of("head", at.head, heads), place_of("query", at.query, length)
    module = look.module if isinstance(look, AttentionLook) else None
    row = look.row(head, query)
    served = look.served[0, query] if isinstance(look, AttentionLook) else row.head_output
    largest = look.served if isinstance(look, AttentionLook) else row.weights
    return AttentionView(
        model=at.model,
        stack=at.stack,
        layer=at.layer,
        layers=at.layers,
        head=head,
        heads=heads,
        key_head=head // (heads // module.kv_heads) if module else 0,
        key_heads=module.kv_heads if module else 1,
        head_dim=row.query.numel(),
        scale=module.scale if module else 1.0,
        softcap=module.softcap if module else None,
        queries=asking,
        query=asking[query],
        query_vector=_numbers(row.query),
        keys=_key_rows(seen, row, vectors=vectors),
        head_output=_numbers(row.head_output),
        contribution_norm=None if row.contribution is None else float(row.contribution.norm()),
        output_norm=float(served.float().norm()),
        all_heads=_heads_at(look, query),
        grid=_grid_view(look, head, grid_limit),
        max_difference=look.max_difference(),
        largest_served=float(largest.float().abs().max()),
        additive=isinstance(look, SourceLook) and look.additive,
    )


def token_label(tokenizer: Tokenizer, index: int) -> str:
    """A token's text with its leading space; how the vocabulary spells a special one; part of a character in hex."""
    if index >= tokenizer.vocab_size:
        return f"<{index}>"
    try:
        data = tokenizer.token_bytes(index)
    except DataError:  # a kind whose tokens have no bytes of their own
        data = b""
    try:
        return data.decode() or tokenizer.token_text(index)
    except UnicodeDecodeError:  # a part of a character
        return f"<{data.hex(' ')}>"


def place_of(word: str, value: int, size: int) -> int:
    """A number that may count from the end, counted from the start. RequestError for a place that is not there."""
    if not -size <= value < size:
        raise RequestError(f"there is no {word} {value}", hint=f"0 to {size - 1:,}, or -1 for the last", param=word)
    return value % size


def _positive(word: str, value: int) -> None:
    if value < 1:
        raise RequestError(f"{word} should be a whole number from 1, not {value}", param=word)


def _numbers(row: Tensor) -> tuple[float, ...]:
    return tuple(row.float().tolist())


def _key_rows(tokens: tuple[TokenAt, ...], row: Row, *, vectors: bool) -> tuple[KeyRow, ...]:
    columns = (row.products, row.scaled, row.capped, row.masked, row.weights, row.value_norms)
    lists = [column.float().tolist() for column in columns]
    return tuple(
        KeyRow(
            index=token.index,
            token_id=token.token_id,
            text=token.text,
            product=product,
            scaled=scaled,
            capped=capped,
            masked=None if masked == -torch.inf else masked,
            weight=weight,
            value_norm=norm,
            vector=_numbers(row.keys[token.index]) if vectors else None,
        )
        for token, product, scaled, capped, masked, weight, norm in zip(tokens, *lists, strict=True)
    )


def _heads_at(look: Look, query: int) -> tuple[HeadAt, ...]:
    weights = look.weights(query, query + 1)[:, 0]
    best = weights.max(dim=-1)
    entropy = torch.special.entr(weights).sum(dim=-1)
    return tuple(
        HeadAt(head=n, entropy=float(entropy[n]), key=int(best.indices[n]), weight=float(best.values[n]))
        for n in range(weights.size(0))
    )


def _grid_view(look: Look, head: int, limit: int) -> GridView:
    found = grid(look, head, limit=limit)
    means, maxima = (tuple(map(tuple, part.tolist())) for part in (found.means, found.maxima))
    return GridView(means=means, maxima=maxima, row_block=found.row_block, column_block=found.column_block)
