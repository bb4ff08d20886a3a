"""Which meters a machine gets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.unit.energy.test_nvml import FakeGpu
from tests.unit.energy.test_rapl import zone

from bloomery.energy import describe_meters, meter, open_meter, sharing


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "find_gpus", lambda: ([], "no NVIDIA GPU"))


def test_estimate_where_nothing_can_be_read(tmp_path: Path) -> None:
    described = describe_meters(powercap=tmp_path)
    assert "estimated" in described["cpu"] and any("no RAPL" in note for note in described["notes"])


def test_unreadable_rapl_is_said(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    (path / "energy_uj").unlink()
    described = describe_meters(powercap=tmp_path)
    assert "estimated" in described["cpu"] and any("chmod" in note for note in described["notes"])


def test_gpu_counter_with_an_estimated_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeGpu()
    monkeypatch.setattr(meter, "find_gpus", lambda: ([card], ""))
    opened = open_meter(powercap=tmp_path)
    card.millijoules += 7_000
    reading = opened.read()
    opened.close()
    assert reading.method == "estimated" and (reading.central or 0) >= 7.0


def test_rapl(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    opened = open_meter(powercap=tmp_path)
    assert opened.read().method == "counter"
    opened.close()


def test_opens_within_20_ms(tmp_path: Path) -> None:
    open_meter(powercap=tmp_path).close()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        open_meter(powercap=tmp_path).close()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.02


def test_who_share_a_counter_have_it_once_between_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeGpu()
    monkeypatch.setattr(meter, "find_gpus", lambda: ([card], ""))
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    with sharing(4):
        opened = [open_meter(powercap=tmp_path) for _ in range(4)]
    whole = open_meter(powercap=tmp_path)
    card.millijoules += 6_000
    (package / "energy_uj").write_text(str(2_000_000))
    readings = [one.read() for one in opened]
    assert whole.read().to_dict() == {"low": 8.0, "central": 8.0, "high": 8.0, "method": "counter"}
    assert [one.to_dict() for one in readings] == [{"low": 0.0, "central": 2.0, "high": 8.0, "method": "estimated"}] * 4
    assert "divided equally" in opened[0].describe()["cpu"] and "equal" not in whole.describe()["cpu"]
    for one in (*opened, whole):
        one.close()


def test_who_shares_a_counter_for_a_while_has_a_part_of_that_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, running = FakeGpu(), [1]
    monkeypatch.setattr(meter, "find_gpus", lambda: ([card], ""))
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    with sharing(lambda: running[0]):
        opened = open_meter(powercap=tmp_path)

    def after(joules: int, sharers: int) -> dict[str, object]:
        card.millijoules, running[0] = card.millijoules + 1_000 * joules, sharers
        return opened.read().to_dict()

    assert after(6, 1) == {"low": 6.0, "central": 6.0, "high": 6.0, "method": "counter"}
    assert after(6, 3) == {"low": 0.0, "central": 8.0, "high": 12.0, "method": "estimated"}
    # Alone again: all that is gained from now on, but what is known so far stays an estimate.
    assert after(4, 1) == {"low": 0.0, "central": 12.0, "high": 16.0, "method": "estimated"}
    assert after(1, 0) == {"low": 0.0, "central": 13.0, "high": 17.0, "method": "estimated"}
    opened.close()
