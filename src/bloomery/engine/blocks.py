"""BlockPool: which blocks of key/value memory belong to whom; shared, copied on write, and remembered by their content.

Memory is cut into blocks of `block_size` positions (Kwon et al., arXiv 2309.06180). A `Table` lists a sequence's
blocks in order. Blocks are counted: two tables may share one, and who wants to write into a shared block gets a copy
of its own first. A full block may be registered under the hash of its tokens and of all before them; it is then found
by the next sequence of the same tenant that begins alike, and kept after its last owner until room is needed (least
recently used first). A table's blocks are placed one after the other where there is room, so that they can be read
without copying. This module does not know tensors, models or requests.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

Copy = tuple[int, int]
"""A block's content that must be copied before it is written: (from, to)."""


class OutOfBlocks(Exception):
    """No block is free, and none is kept that could be forgotten. For the scheduler, which makes room."""


@dataclass(eq=False)
class Table:
    """A sequence's blocks in order. `room` is how many it may come to have."""

    blocks: list[int] = field(default_factory=list)
    room: int = 0
    runs: list[list[int]] = field(default_factory=list)
    """The same blocks as [first, count] of neighbours."""
    reach: int = 0
    """What the sequence's full length changes of its keys: `ModelConfig.reach`."""

    def add(self, block: int) -> None:
        self.blocks.append(block)
        last = self.runs[-1] if self.runs else None
        if last is not None and last[0] + last[1] == block:
            last[1] += 1
        else:
            self.runs.append([block, 1])

    def replace(self, place: int, block: int) -> None:
        blocks, self.blocks, self.runs = self.blocks, [], []
        for i, old in enumerate(blocks):
            self.add(block if i == place else old)


class HashChain:
    """The hash of each full block of a text: of its tokens, all before them, and the tenant. Grows with the text."""

    def __init__(self, tenant: str, block_size: int) -> None:
        self._size = block_size
        self._start = _hash(tenant.encode("utf-8", "surrogatepass"))
        self._found: list[bytes] = []

    def of(self, ids: Sequence[int], blocks: int) -> list[bytes]:
        """The hashes of the first `blocks` blocks of `ids`."""
        for number in range(len(self._found), blocks):
            tokens = array("q", ids[number * self._size : (number + 1) * self._size])
            assert len(tokens) == self._size
            self._found.append(_hash((self._found[-1] if number else self._start) + tokens.tobytes()))
        return self._found[:blocks]


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


class BlockPool:
    """See the module. Not thread-safe: whoever schedules holds it."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError("a pool has at least one block of at least one position")
        self.num_blocks, self.block_size = num_blocks, block_size
        self._owners = np.zeros(num_blocks, dtype=np.int32)
        self._claims: np.ndarray = np.zeros(num_blocks, dtype=np.int64)  # whose room a block is; 0: nobody's
        self._free = num_blocks
        self._by_hash: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()  # registered, without an owner, oldest use first

    @property
    def num_available(self) -> int:
        """Blocks that can be had, those included that are only remembered."""
        return self._free + len(self._kept)

    @property
    def num_used(self) -> int:
        """Blocks that belong to somebody."""
        return self.num_blocks - self.num_available

    def blocks_for(self, positions: int) -> int:
        return -(-positions // self.block_size)

    def grow(self, table: Table, positions: int) -> None:
        """Blocks for `positions` in all. OutOfBlocks if there are not enough; what could be had is in the table."""
        for _ in range(self.blocks_for(positions) - len(table.blocks)):
            table.add(self._take(table))

    def match(self, hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest beginning that is known, now owned by the caller."""
        found: list[int] = []
        for number in hashes:
            block = self._by_hash.get(number)
            if block is None:
                break
            self._own(block)
            found.append(block)
        return found

    def known(self, hashes: Iterable[bytes]) -> tuple[int, int]:
        """How many blocks `match` would find, and how many of them belong to nobody: these are counted as available,
        and will not be any more."""
        count = unowned = 0
        for number in hashes:
            block = self._by_hash.get(number)
            if block is None:
                break
            count += 1
            unowned += self._owners[block] == 0
        return count, int(unowned)

    def register(self, table: Table, place: int, number: bytes) -> None:
        """Remember the table's block at `place`, which is full, under its hash; the first of equal ones is kept."""
        block = table.blocks[place]
        if number not in self._by_hash and block not in self._hash_of:
            self._by_hash[number] = block
            self._hash_of[block] = number

    def fork(self, table: Table) -> Table:
        """A second table of the same blocks."""
        for block in table.blocks:
            self._owners[block] += 1
        return Table(list(table.blocks), table.room, [list(run) for run in table.runs], table.reach)

    def writable(self, table: Table, place: int) -> Copy | None:
        """Make the block at `place` the table's own. If it was shared, the content has to be copied as returned."""
        block = table.blocks[place]
        if self._owners[block] == 1:
            return None
        fresh = self._take(table)
        table.replace(place, fresh)
        self._disown(block)
        return block, fresh

    def release(self, table: Table) -> None:
        """Give all blocks back; registered ones stay known until room is needed."""
        for block in reversed(table.blocks):  # the end of a text is forgotten before its beginning
            self._disown(block)
        self._claims[self._claims == id(table)] = 0
        table.blocks, table.runs = [], []

    def forget(self) -> None:
        """Drop all that is remembered."""
        for block in list(self._hash_of):
            del self._by_hash[self._hash_of.pop(block)]
        self._free += len(self._kept)
        self._kept.clear()

    def _own(self, block: int) -> None:
        if self._owners[block] == 0:
            self._kept.pop(block)
        self._owners[block] += 1

    def _disown(self, block: int) -> None:
        self._owners[block] -= 1
        if self._owners[block] == 0:
            if block in self._hash_of:
                self._kept[block] = None
            else:
                self._free += 1

    def _take(self, table: Table) -> int:
        block = self._neighbour(table)
        if block is None:
            block = self._elsewhere(table)
        self._owners[block] = 1
        self._free -= 1
        return block

    def _neighbour(self, table: Table) -> int | None:
        """The block after the table's last, if it is free and nobody else's room."""
        if not table.blocks:
            return None
        block = table.blocks[-1] + 1
        if block >= self.num_blocks or self._owners[block] or block in self._kept:
            return None
        return block if self._claims[block] in (0, id(table)) else None

    def _elsewhere(self, table: Table) -> int:
        """The first block of a new place: with room for all that the table may need, or else the widest."""
        if not self._free:
            if not self._kept:
                raise OutOfBlocks
            self._evict()
        free = self._owners == 0
        if self._kept:
            free[list(self._kept)] = False
        wanted = max(1, table.room - len(table.blocks))
        for usable in (free & (self._claims == 0), free):
            edges = np.flatnonzero(np.diff(usable, prepend=False, append=False))
            starts, sizes = edges[::2], edges[1::2] - edges[::2]
            if not len(starts):
                continue
            fits = np.flatnonzero(sizes >= wanted)
            best = fits[sizes[fits].argmin()] if len(fits) else sizes.argmax()
            start = int(starts[best])
            self._claims[self._claims == id(table)] = 0
            self._claims[start : start + min(wanted, int(sizes[best]))] = id(table)
            return start
        raise AssertionError("a block that is counted as free is none")

    def _evict(self) -> None:
        block, _ = self._kept.popitem(last=False)
        del self._by_hash[self._hash_of.pop(block)]
        self._free += 1
