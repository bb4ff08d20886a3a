"""What a follower says of errors; that it follows is in tests/integration/test_ranks.py."""

from __future__ import annotations

from bloomery.training.follower import STAGES, is_bug


def test_the_stages_that_can_be_followed():
    assert set(STAGES) == {"pretrain", "train"}


def test_the_end_of_another_rank_is_no_bug():
    assert not is_bug(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    assert is_bug(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
