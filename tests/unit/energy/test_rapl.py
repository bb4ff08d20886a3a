"""RAPL on fake powercap trees: wraps, nested domains, unreadable and vanishing files."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from bloomery.energy import rapl
from bloomery.energy.rapl import PERMIT, RaplMeter, find_rapl


def zone(root: Path, folder: str, name: str, microjoules: int, wrap: int = 1_000_000) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{wrap}\n")
    return path


def test_nested_domains_are_counted_once(tmp_path: Path) -> None:
    zones = [
        zone(tmp_path, "intel-rapl:0", "package-0", 0),
        zone(tmp_path, "intel-rapl:0:0", "core", 0),
        zone(tmp_path, "intel-rapl:0:1", "uncore", 0),
        zone(tmp_path, "intel-rapl:0:2", "dram", 0),
        zone(tmp_path, "intel-rapl:1", "psys", 0),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    meter = RaplMeter(find_rapl(tmp_path))
    for path in zones:
        (path / "energy_uj").write_text("250000")
    reading = meter.read()
    meter.close()
    assert (reading.central, reading.method) == (0.5, "counter")  # package and dram alone


def test_psys_where_there_is_no_package(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "psys", 0)
    assert [name for name, _ in find_rapl(tmp_path).domains] == ["intel-rapl:0 psys"]


def test_wraps_are_followed(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    meter = RaplMeter(find_rapl(tmp_path))
    for value in (100_000, 950_000, 50_000):
        (path / "energy_uj").write_text(str(value))
        meter.read()
    assert meter.read().central == pytest.approx(0.2 + 0.85 + 0.1)
    meter.close()


def test_a_thread_sees_a_wrap_that_nobody_asks_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl, "_WATCH_SECONDS", 0.01)
    path = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    meter = RaplMeter(find_rapl(tmp_path))
    for value in (100_000, 950_000, 50_000):  # nobody but the thread reads between them
        (path / "new").write_text(str(value))
        (path / "new").replace(path / "energy_uj")  # whole at once: an empty file would be a lost counter
        limit = time.perf_counter() + 5
        while meter._domains[0].last != value and time.perf_counter() < limit:
            time.sleep(0.005)
    meter.close()
    assert meter.read().central == pytest.approx(0.2 + 0.85 + 0.1)
    assert not meter._thread.is_alive()


def test_an_unreadable_package_leaves_no_partial_sum(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    broken = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    (broken / "energy_uj").unlink()
    (broken / "energy_uj").mkdir()  # unreadable for root too
    found = find_rapl(tmp_path)
    assert found.domains == ()
    assert "intel-rapl:1" in found.problem and PERMIT in found.problem


def test_a_counter_that_vanishes_makes_the_sum_unknown_for_good(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = RaplMeter(find_rapl(tmp_path))
    shutil.rmtree(path)
    assert not meter.read().known
    zone(tmp_path, "intel-rapl:0", "package-0", 10)
    assert not meter.read().known
    meter.close()


def test_no_tree(tmp_path: Path) -> None:
    assert "no RAPL" in find_rapl(tmp_path / "none").problem


def test_an_unreadable_platform_matters_only_where_there_is_no_package(tmp_path: Path) -> None:
    platform = zone(tmp_path, "intel-rapl:1", "psys", 0)
    (platform / "energy_uj").unlink()
    assert PERMIT in find_rapl(tmp_path).problem
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    found = find_rapl(tmp_path)
    assert [name for name, _ in found.domains] == ["intel-rapl:0 package-0"] and not found.problem


def test_memory_that_is_not_metered_is_said(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = RaplMeter(find_rapl(tmp_path))
    meter.close()
    assert "not metered" in meter.describe()["memory"]
    zone(tmp_path, "intel-rapl:0:0", "dram", 0)
    meter = RaplMeter(find_rapl(tmp_path))
    meter.close()
    assert "not metered" not in meter.describe()["memory"]
