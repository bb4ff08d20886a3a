"""Time to the first token of short requests, idle and while long prompts arrive: the ratio of their 95th percentiles.

    python benchmarks/bench_first_token.py [--size 15M] [--pairs 5] [--probes 40] [--long 1500] [--readers 2]

Starts the server on random weights (those of bench_engine). Idle and loaded phases take turns. In each, one client asks
for a short text, streamed, again and again with random pauses, and notes when its first token comes; in a loaded phase
`--readers` other clients have prompts of `--long` random tokens read all the while, each new to the prefix cache. The
bar is a ratio of at most 2 (exit code 1 beyond it). Prints percentiles of all phases together, the ratio of each pair,
and how much was read beside the probes. Only a quiet machine gives numbers that mean anything: the load is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import runpy
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

FOLDER = Path(__file__).resolve().parent
BAR = 2.0
SERVE = """
import sys
from bloomery.server import ServeConfig, serve
config = ServeConfig(port=int(sys.argv[2]), weights=sys.argv[4] or None, drift_window=0)
serve(sys.argv[1], config=config, workspace=sys.argv[3])
"""


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(5, 200) for _ in range(count)]


async def first_token(client: httpx.AsyncClient, model: str, rng: random.Random) -> float:
    """Seconds from asking to the first chunk of one short request, which is read to its end."""
    body = {"model": model, "prompt": ids(rng, 16), "max_tokens": 8, "temperature": 0, "stream": True}
    began, first = time.perf_counter(), None
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if first is None and line.startswith("data: {"):
                assert "error" not in json.loads(line[6:]), line
                first = time.perf_counter() - began
    assert first is not None, "a stream without a token"
    return first


async def read_long(client: httpx.AsyncClient, model: str, rng: random.Random, tokens: int) -> None:
    body = {"model": model, "prompt": ids(rng, tokens), "max_tokens": 4, "temperature": 0}
    (await client.post("/v1/completions", json=body)).raise_for_status()


async def phase(
    client: httpx.AsyncClient, model: str, seed: int, *, probes: int, long: int, readers: int
) -> tuple[list[float], float]:
    """(seconds to each first token, prompt tokens a second that the readers had read)"""
    rng, done = random.Random(seed), 0
    stop = asyncio.Event()

    async def reader(number: int) -> None:
        nonlocal done
        own = random.Random(seed * 1000 + number)
        while not stop.is_set():
            await read_long(client, model, own, long)
            done += long

    reading = [asyncio.create_task(reader(number)) for number in range(readers)]
    if readers:
        await asyncio.sleep(0.5)
    began, before, found = time.perf_counter(), done, []
    for _ in range(probes):
        await asyncio.sleep(rng.uniform(0.0, 0.1))
        found.append(await first_token(client, model, rng))
    speed = (done - before) / (time.perf_counter() - began)
    stop.set()
    await asyncio.gather(*reading)
    return found, speed


async def measure(url: str, model: str, options: argparse.Namespace) -> bool:
    idle: list[float] = []
    loaded: list[float] = []
    ratios, speeds = [], []
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client:
        await phase(client, model, 0, probes=5, long=options.long, readers=1)  # memory is taken, code is warm
        for pair in range(1, options.pairs + 1):
            seen = {"probes": options.probes, "long": options.long}
            alone, _ = await phase(client, model, 2 * pair, readers=0, **seen)
            beside, speed = await phase(client, model, 2 * pair + 1, readers=options.readers, **seen)
            idle, loaded = idle + alone, loaded + beside
            ratios.append(percentile(beside, 0.95) / percentile(alone, 0.95))
            speeds.append(speed)
    for name, values in (("idle", idle), ("while long prompts are read", loaded)):
        told = ", ".join(f"p{n} {percentile(values, n / 100) * 1e3:.1f} ms" for n in (50, 95, 99))
        print(f"{name}: {told} of {len(values)}")
    ratio = percentile(loaded, 0.95) / percentile(idle, 0.95)
    print(f"read beside the probes: {statistics.median(speeds):,.0f} prompt tokens a second")
    print(f"pairs: {', '.join(f'{one:.2f}' for one in ratios)}")
    print(f"ratio of p95: {ratio:.2f}, the bar is {BAR:g}: {'met' if ratio <= BAR else 'missed'}")
    return ratio <= BAR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="15M", choices=["15M", "135M"])
    parser.add_argument("--weights", default="", help='"int8", "float16", ...; as they are without it')
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--probes", type=int, default=40)
    parser.add_argument("--long", type=int, default=1500)
    parser.add_argument("--readers", type=int, default=2)
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="bloomery-first-") as home, socket.socket() as probe:
        folder = runpy.run_path(str(FOLDER / "bench_engine.py"))["make_folder"](Path(home), options.size)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-c", SERVE, str(folder), str(port), f"{home}/ws", options.weights]
        server = subprocess.Popen(command, env={**os.environ, "BLOOMERY_API_KEY": ""}, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(1_500):
                try:
                    if server.poll() is not None or httpx.get(f"{url}/health", timeout=1).status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.2)
            met = asyncio.run(measure(url, folder.name, options))
        finally:
            server.terminate()
            server.wait(60)
    sys.exit(not met)


if __name__ == "__main__":
    main()
