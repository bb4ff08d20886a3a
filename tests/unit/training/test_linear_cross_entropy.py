"""The fused head and loss against PyTorch's cross-entropy of the whole logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bloomery.training import linear_cross_entropy as module
from bloomery.training.linear_cross_entropy import linear_cross_entropy


def _case(rows: int = 70, hidden: int = 12, vocabulary: int = 33) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, hidden, generator=generator).requires_grad_()
    weight = torch.randn(vocabulary, hidden, generator=generator).requires_grad_()
    labels = torch.randint(0, vocabulary, (rows,), generator=generator)
    labels[::7] = -100
    return x, weight, labels


@pytest.mark.parametrize("softcap", [None, 2.5])
@pytest.mark.parametrize("chunk_bytes", [1, 4 * 33 * 20, 1 << 30])
def test_loss_and_gradients(monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, softcap: float | None):
    monkeypatch.setattr(module, "_CPU_CHUNK_BYTES", chunk_bytes)
    x, weight, labels = _case()
    ours = linear_cross_entropy(x, weight, labels, softcap=softcap)
    (ours / 60).backward()
    assert x.grad is not None and weight.grad is not None
    got = (x.grad.clone(), weight.grad.clone())
    x.grad = weight.grad = None
    logits = x @ weight.T if softcap is None else softcap * torch.tanh(x @ weight.T / softcap)
    theirs = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    (theirs / 60).backward()
    # float32 sums in another order
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert torch.allclose(got[0], x.grad, atol=1e-6) and torch.allclose(got[1], weight.grad, atol=1e-6)
    assert got[0][::7].abs().max() == 0


def test_a_frozen_head_gets_no_gradient():
    x, weight, labels = _case()
    whole = linear_cross_entropy(x, weight, labels)
    whole.backward()
    expected, x.grad = x.grad, None
    linear_cross_entropy(x, weight.detach(), labels).backward()
    assert x.grad is not None and expected is not None and torch.equal(x.grad, expected)


def test_autocast_is_close():
    x, weight, labels = _case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = linear_cross_entropy(x, weight, labels)
    ours.backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
    theirs = F.cross_entropy(x @ weight.T, labels, ignore_index=-100, reduction="sum")
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(theirs.item(), rel=0.01)  # bfloat16 products: 8 bits


def test_without_gradients_and_without_labels():
    x, weight, labels = _case()
    with torch.no_grad():
        assert not linear_cross_entropy(x, weight, labels).requires_grad
    nothing = linear_cross_entropy(x, weight, torch.full_like(labels, -100))
    nothing.backward()
    assert nothing.item() == 0 and x.grad is not None and x.grad.abs().max() == 0


def test_large_logits_do_not_overflow():
    x, weight, labels = _case()
    loss = linear_cross_entropy(x * 1e4, weight, labels)
    loss.backward()
    assert loss.isfinite() and weight.grad is not None and weight.grad.isfinite().all()


def test_what_does_not_fit_is_refused():
    """A label of -1 would else count as the first token, and labels too many as none."""
    hidden, weight = torch.randn(4, 8), torch.randn(6, 8)
    labels = torch.tensor([0, 5, -100, 2])
    assert linear_cross_entropy(hidden, weight, labels).isfinite()
    with pytest.raises(ValueError, match="labels are ids"):
        linear_cross_entropy(hidden, weight, torch.tensor([0, -1, 2, 3]))
    for wrong in (torch.zeros(5).long(), torch.zeros(4, 1).long()):
        with pytest.raises(ValueError, match="do not fit"):
            linear_cross_entropy(hidden, weight, wrong)
    with pytest.raises(ValueError, match="softcap"):
        linear_cross_entropy(hidden, weight, labels, softcap=0.0)
    with pytest.raises((IndexError, RuntimeError)):
        linear_cross_entropy(hidden, weight, torch.tensor([0, 6, 2, 3]))
