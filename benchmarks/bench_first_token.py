"""Time to the first token of short requests, idle and while long prompts arrive: the ratio of their 95th percentiles.

    python benchmarks/bench_first_token.py [--size 15M] [--pairs 5] [--probes 40] [--long 1500] [--readers 2]
        [--streams 4] [--minutes 5]

Starts the server on random weights (those of bench_engine). Idle and loaded phases take turns. In each, one client asks
for a short text (16 tokens, 8 new), streamed, again and again with random pauses, and notes when its first token comes:
with its log-probability, for a token that ends within a character has no text yet, and random weights give many such.
In a loaded phase `--streams` clients read streams that never end meanwhile, and `--readers` others have prompts of
`--long` random tokens read, one after the other, each new to the prefix cache: all processors are busy, clients
included. What a server can then do for who comes is to let it pass, not to compute it faster: the bar is a ratio of at
most 2 (exit code 1 beyond it). Prints percentiles of all phases together, the ratio of each pair, and what the others
were given meanwhile. After `--minutes` no new phase is begun, and the one that runs is cut. Only a quiet machine gives
numbers that mean anything: the load is printed.
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
from dataclasses import dataclass, field
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
    body = {"model": model, "prompt": ids(rng, 16), "max_tokens": 8, "temperature": 0, "stream": True, "logprobs": 0}
    began, first = time.perf_counter(), None
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if first is None and line.startswith("data: {"):
                assert "error" not in json.loads(line[6:]), line
                first = time.perf_counter() - began
    assert first is not None, "a stream without a token"
    return first


@dataclass
class Phase:
    """What one phase has seen. `seconds` are those to each first token."""

    seconds: list[float] = field(default_factory=list)
    read_tokens: int = 0
    streamed_tokens: int = 0
    lasted: float = 0.0


async def read_long(client: httpx.AsyncClient, model: str, rng: random.Random, tokens: int, seen: Phase) -> None:
    """Long prompts, one after the other, until cancelled."""
    while True:
        body = {"model": model, "prompt": ids(rng, tokens), "max_tokens": 4, "temperature": 0}
        (await client.post("/v1/completions", json=body)).raise_for_status()
        seen.read_tokens += tokens


async def read_stream(client: httpx.AsyncClient, model: str, rng: random.Random, seen: Phase) -> None:
    """Streams of a thousand tokens, one after the other, until cancelled."""
    while True:
        body = {"model": model, "prompt": ids(rng, 16), "max_tokens": 1000, "temperature": 1, "stream": True}
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                seen.streamed_tokens += line.startswith("data: {")


async def phase(
    client: httpx.AsyncClient, model: str, seed: int, options: argparse.Namespace, *, loaded: bool, until: float
) -> Phase:
    """One phase; it ends at the last probe, or at `until` (seconds of `time.monotonic`)."""
    rng, seen = random.Random(seed), Phase()
    others: list[asyncio.Task[None]] = []
    if loaded:
        long = [
            read_long(client, model, random.Random(f"{seed} {n}"), options.long, seen) for n in range(options.readers)
        ]
        texts = [read_stream(client, model, random.Random(f"{seed} s{n}"), seen) for n in range(options.streams)]
        others = [asyncio.create_task(one) for one in (*long, *texts)]
        await asyncio.sleep(1.0)
    began, before = time.monotonic(), (seen.read_tokens, seen.streamed_tokens)
    while len(seen.seconds) < options.probes and time.monotonic() < until:
        await asyncio.sleep(rng.uniform(0.0, 0.1))
        seen.seconds.append(await first_token(client, model, rng))
    seen.lasted = time.monotonic() - began
    seen.read_tokens, seen.streamed_tokens = seen.read_tokens - before[0], seen.streamed_tokens - before[1]
    failed = [one for one in others if one.done()]
    for one in others:
        one.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for one in failed:
        one.result()
    return seen


async def measure(url: str, model: str, options: argparse.Namespace) -> bool:
    idle: list[float] = []
    loaded: list[float] = []
    ratios: list[float] = []
    speeds: list[tuple[float, float]] = []
    until = time.monotonic() + 60 * options.minutes
    async with httpx.AsyncClient(base_url=url, timeout=60 * options.minutes, trust_env=False) as client:
        warm = argparse.Namespace(**{**vars(options), "probes": 5})
        await phase(client, model, 0, warm, loaded=True, until=until)  # memory is taken, code is warm
        for pair in range(1, options.pairs + 1):
            if time.monotonic() >= until:
                break
            alone = await phase(client, model, 2 * pair, options, loaded=False, until=until)
            beside = await phase(client, model, 2 * pair + 1, options, loaded=True, until=until)
            if not alone.seconds or not beside.seconds:
                break
            idle, loaded = idle + alone.seconds, loaded + beside.seconds
            ratios.append(percentile(beside.seconds, 0.95) / percentile(alone.seconds, 0.95))
            speeds.append((beside.read_tokens / beside.lasted, beside.streamed_tokens / beside.lasted))
            print(f"pair {pair} of {options.pairs}: {len(beside.seconds)} probes, {ratios[-1]:.2f}", flush=True)
    if not ratios:
        print(f"not one pair was measured in {options.minutes:g} minutes: the machine is too busy")
        return False
    for name, values in (("idle", idle), ("while long prompts are read", loaded)):
        told = ", ".join(f"p{n} {percentile(values, n / 100) * 1e3:.1f} ms" for n in (50, 95, 99))
        print(f"{name}: {told} of {len(values)}")
    ratio = percentile(loaded, 0.95) / percentile(idle, 0.95)
    read, streamed = (statistics.median(each) for each in zip(*speeds, strict=True))
    print(f"beside the probes: {read:,.0f} prompt tokens and {streamed:,.0f} chunks of streams a second")
    print(f"pairs: {', '.join(f'{one:.2f}' for one in ratios)}; load {os.getloadavg()[0]:.1f}")
    print(f"ratio of p95: {ratio:.2f}, the bar is {BAR:g}: {'met' if ratio <= BAR else 'missed'}")
    return ratio <= BAR


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers, five minutes at most."""
    for _ in range(1_500):
        if server.poll() is not None:
            raise SystemExit(f"the server has ended: {log.read_text()[-2_000:]}")
        try:
            if httpx.get(f"{url}/health", timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit("the server does not answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="15M", choices=["15M", "135M"])
    parser.add_argument("--weights", default="", help='"int8", "float16", ...; as they are without it')
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--probes", type=int, default=40)
    parser.add_argument("--long", type=int, default=1500)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="bloomery-first-") as home, socket.socket() as probe:
        folder = runpy.run_path(str(FOLDER / "bench_engine.py"))["make_folder"](Path(home), options.size)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-c", SERVE, str(folder), str(port), f"{home}/ws", options.weights]
        log = Path(home, "server.log")
        with log.open("wb") as told:
            server = subprocess.Popen(command, env={**os.environ, "BLOOMERY_API_KEY": ""}, stdout=told, stderr=told)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, server, log)
            met = asyncio.run(measure(url, folder.name, options))
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
    sys.exit(not met)


if __name__ == "__main__":
    main()
