"""Scheduler: who is computed next, and who makes room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bloomery.engine.blocks import BlockPool
from bloomery.engine.scheduler import Plan, Scheduler, SchedulerConfig
from bloomery.engine.sequence import Request, SequenceState


def sequence(length: int, *, first: int = 0, new: int = 8, **request: Any) -> SequenceState:
    ids = list(range(first, first + length))
    generation: Any = SimpleNamespace(
        params=SimpleNamespace(prompt_logprobs=None), max_new_tokens=new, num_new=0, cached_tokens=0, finished=False
    )
    return SequenceState(Request(prompt_ids=ids, generations=[generation], **request), generation, list(ids))


def scheduler(blocks: int = 64, size: int = 4, **config: int) -> Scheduler:
    return Scheduler(BlockPool(blocks, size), SchedulerConfig(**config))


def carry_out(plan: Plan, schedule: Scheduler) -> None:
    """As the engine does, with token 7 for everybody."""
    for one, count in plan.prefill:
        schedule.read(one, count)
        if not one.unread:
            one.ids.append(7)
            one.generation.num_new += 1
    for one in plan.decode:
        one.ids.append(7)
        schedule.read(one, 1)
        one.generation.num_new += 1


def test_a_step_decodes_all_and_reads_a_bounded_part():
    schedule = scheduler(prefill_tokens=16, prefill_tokens_beside_others=10)
    long, short = sequence(50), sequence(5, first=100)
    schedule.add(long)
    carry_out(schedule.plan(), schedule)
    assert long.read == 16
    schedule.add(short)
    plan = schedule.plan()
    assert plan.prefill == [(short, 5), (long, 5)]  # it came later, and is soonest done
    carry_out(plan, schedule)
    plan = schedule.plan()
    assert plan.decode == [short] and plan.prefill == [(long, 10)]


def test_parts_stay_small_for_a_while_when_somebody_was_beside():
    schedule = scheduler(blocks=2_000, prefill_tokens=16, prefill_tokens_beside_others=4)
    one, other = sequence(900), sequence(2, first=1000, new=1)
    schedule.add(one)
    carry_out(schedule.plan(), schedule)
    assert one.read == 16
    schedule.add(other)
    counts = []
    for _ in range(60):
        plan = schedule.plan()
        counts += [count for each, count in plan.prefill if each is one]
        carry_out(plan, schedule)
        if other in schedule.running:
            schedule.remove(other)
    assert counts[:32] == [2, *[4] * 31] and counts[-10:] == [16] * 10


def test_half_of_a_part_is_for_who_waits_longest_and_nothing_is_left_over():
    schedule = scheduler(blocks=400, prefill_tokens=16, prefill_tokens_beside_others=16)
    longest, middle, short = sequence(40), sequence(30, first=100), sequence(3, first=200)
    for one in (longest, middle, short):
        schedule.add(one)
    plan = schedule.plan()
    assert plan.prefill == [(short, 3), (middle, 5), (longest, 8)]
    carry_out(plan, schedule)
    longest.read = 38
    schedule.remove(short)
    assert schedule.plan().prefill == [(longest, 2), (middle, 14)]


def test_who_comes_in_the_middle_of_a_step_is_let_in_if_short_and_nobody_gives_way():
    schedule = scheduler(blocks=20, size=4, max_running=4)
    long = sequence(40, priority=1)
    schedule.add(long)
    plan = schedule.plan()
    short, other, urgent = sequence(10, first=100), sequence(9, first=200), sequence(60, first=300, priority=-1)
    for one in (short, other, urgent):
        schedule.add(one)
    assert schedule.let_in(12).prefill == []  # who is first in turn has no room before the long one is over
    schedule.waiting.remove(urgent)
    assert schedule.let_in(12).prefill == [(short, 10)] and schedule.waiting == [other]
    assert schedule.let_in(9).prefill == [(other, 9)]
    assert plan.prefill == [(long, 40)] and long in schedule.running and not schedule.preemptions
    schedule.add(sequence(1, first=400))
    schedule.add(sequence(1, first=500))
    assert len(schedule.let_in(9).prefill) == 1  # four run


def test_a_long_prompt_is_not_starved_by_short_ones():
    schedule = scheduler(blocks=400, prefill_tokens=8, prefill_tokens_beside_others=8)
    long = sequence(64, new=1)
    schedule.add(long)
    for number in range(40):
        short = sequence(8, first=1000 + 10 * number, new=1)
        schedule.add(short)
        carry_out(schedule.plan(), schedule)
        for one in list(schedule.running):
            if one is not long and one.is_decoding:
                schedule.remove(one)
        if long.is_decoding:
            break
    assert long.is_decoding and number < 20


def test_tenants_are_let_in_in_turn():
    schedule = scheduler(max_running=2)
    greedy = [sequence(4, first=10 * i, tenant="a") for i in range(5)]
    modest = sequence(4, first=500, tenant="b")
    for one in (*greedy, modest):
        schedule.add(one)
    schedule.plan()
    assert schedule.running == [greedy[0], modest]


def test_who_came_last_makes_room_and_is_read_again_from_what_is_known():
    schedule = scheduler(blocks=6, size=4)
    first, last = sequence(8, new=20), sequence(8, first=100, new=20)
    schedule.add(first)
    schedule.add(last)
    while not schedule.preemptions:
        carry_out(schedule.plan(), schedule)
    assert schedule.running == [first] and schedule.waiting == [last]
    assert last.read == 0 and not last.table.blocks and len(last.ids) > 8
    while first.generation.num_new < 12:
        carry_out(schedule.plan(), schedule)
    schedule.remove(first)
    plan = schedule.plan()
    assert [one for one, _ in plan.prefill] == [last] or plan.decode == [last]


def test_shared_blocks_are_copied_before_they_are_written():
    schedule = scheduler(blocks=8, size=4)
    one = sequence(6)
    other = SequenceState(one.request, one.generation, list(one.ids))
    one.siblings = [other]
    schedule.add(one)
    plan = schedule.plan()
    schedule.read(one, 6)
    assert schedule.fork(one) == [other] and other.read == 6 and other in schedule.running
    for each in (one, other):
        each.ids.append(9)
    plan = schedule.plan()
    assert plan.decode == [one, other] and len(plan.copies) == 1
    source, target = plan.copies[0]
    assert source != target and {source, target} == {one.table.blocks[1], other.table.blocks[1]}
    assert one.table.blocks[0] == other.table.blocks[0]


def test_what_was_read_is_known_to_the_next():
    schedule = scheduler(blocks=10, size=4)
    one = sequence(10)
    schedule.add(one)
    carry_out(schedule.plan(), schedule)
    again, stranger, shy = sequence(10), sequence(10, tenant="x"), sequence(10, shares=False)
    for each in (again, stranger, shy):
        schedule.add(each)
    schedule.plan()
    assert (again.read, stranger.read, shy.read) == (8, 0, 0)
    assert again.table.blocks[:2] == one.table.blocks[:2]
    assert schedule.hit_tokens == 8


def test_where_memory_is_plenty_a_known_beginning_is_copied_into_one_run():
    schedule = scheduler(blocks=64, size=4)
    one = sequence(10)
    schedule.add(one)
    carry_out(schedule.plan(), schedule)
    again = sequence(10)
    schedule.add(again)
    plan = schedule.plan()
    assert again.read == 8 and len(again.table.runs) == 1
    assert plan.copies == list(zip(one.table.blocks[:2], again.table.blocks[:2], strict=True))
    schedule.remove(again)
    schedule.remove(one)
    assert schedule.pool.num_used == 0
