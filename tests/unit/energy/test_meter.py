"""Which meters a machine gets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.unit.energy.test_nvml import FakeGpu
from tests.unit.energy.test_rapl import zone

from bloomery.energy import describe_meters, meter, open_meter


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
