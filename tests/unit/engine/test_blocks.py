"""Blocks: counted, shared, copied on write, found by content, and never in two hands: against a model of plain sets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.engine.blocks import BlockPool, HashChain, OutOfBlocks, Table


def test_neighbours_make_one_run_while_there_is_room():
    pool = BlockPool(64, 4)
    first, second = Table(room=10), Table(room=10)
    for length in range(1, 41):
        pool.grow(first, length)
        pool.grow(second, length)
    assert first.runs == [[0, 10]] and second.runs == [[10, 10]]
    assert pool.num_used == 20 and pool.num_available == 44


def test_a_table_without_room_goes_on_elsewhere():
    pool = BlockPool(6, 1)
    first, second = Table(room=1), Table(room=1)
    pool.grow(first, 1)
    pool.grow(second, 1)
    pool.grow(first, 5)
    assert len(first.blocks) == 5 and len(set(first.blocks) | set(second.blocks)) == 6
    with pytest.raises(OutOfBlocks):
        pool.grow(second, 2)
    pool.release(first)
    pool.grow(second, 6)
    assert pool.num_available == 0


def test_a_fork_shares_and_a_writer_gets_its_own():
    pool = BlockPool(8, 4)
    first = Table(room=3)
    pool.grow(first, 10)
    second = pool.fork(first)
    assert pool.num_used == 3
    copy = pool.writable(second, 2)
    assert copy is not None and copy[0] == first.blocks[2] and copy[1] == second.blocks[2]
    assert first.blocks[:2] == second.blocks[:2] and pool.num_used == 4
    assert pool.writable(second, 2) is None and pool.writable(first, 2) is None
    pool.release(first)
    assert pool.num_used == 3
    pool.release(second)
    assert pool.num_used == 0


def test_a_prefix_is_found_by_the_same_tenant_only_and_forgotten_last_used_first():
    pool, ids = BlockPool(4, 2), [1, 2, 3, 4, 5, 6]
    table = Table(room=3)
    pool.grow(table, 6)
    hashes = HashChain("a", 2).of(ids, 3)
    for place, number in enumerate(hashes):
        pool.register(table, place, number)
    blocks = list(table.blocks)
    pool.release(table)
    assert pool.num_used == 0 and pool.num_available == 4
    assert pool.match(HashChain("b", 2).of(ids, 3)) == []
    assert pool.match(HashChain("a", 2).of([1, 2, 9, 9, 5, 6], 3)) == blocks[:1]
    pool.release(Table(blocks[:1]))
    other = Table(room=2)
    pool.grow(other, 4)  # one block was never used, and the end of the text is forgotten before its beginning
    assert pool.known(hashes) == (2, 2)
    pool.forget()
    assert pool.known(hashes) == (0, 0) and pool.num_available == 2


def test_a_chain_grows_with_its_text_and_depends_on_all_before():
    ids = list(range(40))
    grown = HashChain("t", 8)
    assert [grown.of(ids, n)[-1] for n in range(1, 6)] == HashChain("t", 8).of(ids, 5)
    changed = [7, *ids[1:]]
    assert not set(HashChain("t", 8).of(changed, 5)) & set(HashChain("t", 8).of(ids, 5))
    assert HashChain("u", 8).of(ids, 1) != HashChain("t", 8).of(ids, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_no_block_is_lost_or_owned_by_strangers(seed: int):
    rng, pool = random.Random(seed), BlockPool(24, 2)
    tables: dict[Table, list[int]] = {}
    for _ in range(80):
        action = rng.random()
        if action < 0.4 or not tables:
            ids = [rng.randrange(2) for _ in range(rng.randrange(1, 14))]
            table = Table(room=rng.randrange(1, 9))
            for block in pool.match(HashChain("", 2).of(ids, (len(ids) - 1) // 2)):
                table.add(block)
            tables[table] = ids
            try:
                pool.grow(table, len(ids))
            except OutOfBlocks:
                pool.release(tables and table)
                del tables[table]
                continue
            for place, number in enumerate(HashChain("", 2).of(ids, len(ids) // 2)):
                pool.register(table, place, number)
        else:
            table = rng.choice(list(tables))
            if action < 0.6:
                tables[pool.fork(table)] = list(tables[table])
            elif action < 0.8:
                pool.release(table)
                del tables[table]
            else:
                try:
                    pool.writable(table, rng.randrange(len(table.blocks)))
                except OutOfBlocks:
                    assert pool.num_available == 0
        owned: dict[int, int] = {}
        for each in tables:
            assert len(each.blocks) == pool.blocks_for(len(tables[each]))
            assert [first + i for first, count in each.runs for i in range(count)] == each.blocks
            for block in each.blocks:
                owned[block] = owned.get(block, 0) + 1
        assert pool.num_used == len(owned)
        assert {b: int(n) for b, n in enumerate(pool._owners) if n} == owned
