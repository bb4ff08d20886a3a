"""Load: a server under many connections that come, cancel and leave; nothing is lost or leaks, all is well-formed.

    python benchmarks/load_server.py [--seconds 3600] [--connections 64] [--patience 600]

Starts the server on a tiny random model, asks it in every form at random (whole and streamed, completions, chat and
responses, several choices, log-probabilities, deadlines, bad requests), leaves at random, and checks every answer;
one that has not come after `--patience` seconds without a byte is lost. At the end the server must be idle, the ledger
must have the row of every answer by its id, the request store must be within its bound, no file may be open that was
not after the first third, and memory must be as it was in the second third, by medians and by the line through all
samples since the first; key/value memory, which is taken from the system as it is used first, up to its bound, does not
count. It prints what memory is made of now and then (see server_memory.py), and at the end what became more. Exits with
1 if anything is wrong. A three-minute form is a test.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import runpy
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

PROJECT = Path(__file__).resolve().parents[1]
SERVE = """
import runpy
import sys
from bloomery.server import ServeConfig, serve
runpy.run_path(sys.argv[4])["watch"](sys.argv[5], float(sys.argv[6]))
config = ServeConfig(port=int(sys.argv[2]), store="content", store_rows=1000, drift_window=100)
serve(sys.argv[1], config=config, workspace=sys.argv[3])
"""
WORDS = ("once upon a time", "there was a small furnace", "that smelted iron", "and", "nobody", "could say why")
REASONS = {"stop", "length"}


@dataclass
class Seen:
    """What happened."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    rss_bytes: list[tuple[float, int]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    """Open ones, at each sample, and when the server is idle at the end."""
    parts: list[dict[str, Any]] = field(default_factory=list)
    """What memory was made of, as the server told."""
    ids: set[str] = field(default_factory=set)
    """Of answers that were whole."""

    def check(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(what)


def body_of(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A route and a body; a tenth are bad."""
    text = " ".join(rng.choices(WORDS, k=rng.choice([1, 5, 40, 120])))
    body: dict[str, Any] = {"model": "tiny", "max_tokens": rng.choice([1, 4, 16, 48]), "seed": rng.randrange(99)}
    body["temperature"] = rng.choice([0.0, 0.8, 1.3])
    if rng.random() < 0.3:
        body["n"] = rng.choice([2, 3])
    if rng.random() < 0.4:
        body["stream"] = True
        if rng.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
    if rng.random() < 0.2:
        body["timeout_seconds"] = rng.choice([0.001, 0.05, 3600])
    form = rng.random()
    if form < 0.2:
        body |= {"input": text, "max_output_tokens": body.pop("max_tokens")}
        body.pop("n", None)
        body.pop("stream_options", None)
        route = "/v1/responses"
    elif form < 0.6:
        body["messages"] = [{"role": "user", "content": text}]
        route = "/v1/chat/completions"
    else:
        body["prompt"] = text if rng.random() < 0.8 else [text, "and another"]
        body |= rng.choice([{}, {"logprobs": 2}, {"echo": True, "logprobs": 1}, {"stop": "e"}])
        route = "/v1/completions"
    if rng.random() < 0.1:
        body |= rng.choice([{"temperature": -1}, {"max_tokens": "x"}, {"model": "none"}, {"n": 0}, {"surprise": 1}])
    return route, body


def is_bad(body: dict[str, Any]) -> bool:
    odd = body["temperature"] < 0 or body["model"] != "tiny" or body.get("n") == 0 or "surprise" in body
    return odd or not isinstance(body.get("max_tokens", 1), int)


async def ask(client: httpx.AsyncClient, rng: random.Random, seen: Seen, patience: float) -> None:
    route, body = body_of(rng)
    leaves, closes = rng.random() < 0.1, rng.random() < 0.2
    timeout = rng.uniform(0.01, 0.3) if leaves else patience
    try:
        async with client.stream("POST", route, json=body, timeout=timeout) as answer:
            if is_bad(body):
                await answer.aread()
                seen.counts["refused"] += 1
                seen.check(answer.status_code in (400, 404), f"{answer.status_code} for {body}")
                seen.check(set(answer.json()["error"]) == {"message", "type", "param", "code"}, "error object")
            elif answer.status_code == 429:
                await answer.aread()
                seen.counts["full"] += 1
                seen.check("retry-after" in answer.headers, "429 without retry-after")
            elif answer.status_code == 504 and body.get("timeout_seconds", 60) < 1:
                await answer.aread()
                seen.counts["out of time"] += 1
                seen.check(answer.json()["error"]["code"] == "deadline_exceeded", "504 of another kind")
            elif answer.status_code != 200:
                seen.check(False, f"{answer.status_code}: {(await answer.aread())[:300]!r}")
            elif body.get("stream"):
                reader = read_events if "input" in body else read_stream
                await reader(answer, body, rng if closes else None, seen)
            else:
                await answer.aread()
                told = answer.json()
                check_response(told, seen) if "input" in body else check_whole(told, body, seen)
                seen.counts["whole"] += 1
                seen.ids.add(told["id"])
    except httpx.TimeoutException:
        seen.counts["left before the end"] += 1
        seen.check(leaves, f"no answer within {patience:g} seconds: {str(body)[:200]}")
    except httpx.HTTPError as error:
        seen.check(False, f"{type(error).__name__}: {error}")


async def read_stream(answer: httpx.Response, body: dict[str, Any], leaving: random.Random | None, seen: Seen) -> None:
    ended: dict[int, str] = {}
    last = name = ""
    async for line in answer.aiter_lines():
        if not line:
            continue
        seen.check(line.startswith("data: "), f"a line of a stream: {line[:80]!r}")
        last = line.removeprefix("data: ")
        if last == "[DONE]":
            continue
        chunk = json.loads(last)
        if "error" in chunk and body.get("timeout_seconds", 60) < 1:
            seen.counts["out of time"] += 1
            seen.check(chunk["error"]["code"] == "deadline_exceeded", f"error in a stream: {last[:200]}")
            return
        seen.check("error" not in chunk, f"error in a stream: {last[:200]}")
        name = chunk.get("id", name)
        for choice in chunk.get("choices", ()):
            seen.check(choice["index"] not in ended, "a choice goes on after its end")
            if choice["finish_reason"]:
                ended[choice["index"]] = choice["finish_reason"]
        if leaving is not None and leaving.random() < 0.3:
            seen.counts["left a stream"] += 1
            return
    prompts = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
    seen.check(last == "[DONE]", f"a stream without its end: {last[:80]!r}")
    seen.check(len(ended) == prompts * body.get("n", 1) and set(ended.values()) <= REASONS, f"choices: {ended}")
    seen.counts["streamed"] += 1
    seen.ids.add(name)


async def read_events(answer: httpx.Response, body: dict[str, Any], leaving: random.Random | None, seen: Seen) -> None:
    """A stream of /v1/responses."""
    number, event, begun = 0, {}, False
    async for line in answer.aiter_lines():
        if not line.startswith("data: "):
            seen.check(not line or line.startswith("event: "), f"a line of a stream: {line[:80]!r}")
            continue
        event = json.loads(line.removeprefix("data: "))
        seen.check(event["sequence_number"] == number, "events are not numbered")
        number += 1
        begun = begun or event["type"].endswith(".delta")
        if (
            leaving is not None and leaving.random() < 0.3
        ):  # the first events come before its turn: nothing to write down
            seen.counts["left a stream" if begun else "left while waiting"] += 1
            return
    if event.get("type") == "error":
        seen.counts["out of time"] += 1
        seen.check(event["code"] == "deadline_exceeded" and body.get("timeout_seconds", 60) < 1, f"error: {event}")
        return
    seen.check(event.get("type") in ("response.completed", "response.incomplete"), f"the last event: {event}")
    if "response" in event:
        check_response(event["response"], seen)
        seen.ids.add(event["response"]["id"])
    seen.counts["streamed"] += 1


def check_response(answer: dict[str, Any], seen: Seen) -> None:
    usage = answer["usage"]
    seen.check(answer["status"] in ("completed", "incomplete"), f"status: {answer['status']}")
    seen.check([item["type"] for item in answer["output"]] == ["message"], "output of a response")
    seen.check(usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], "sum of usage")


def check_whole(answer: dict[str, Any], body: dict[str, Any], seen: Seen) -> None:
    prompts = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
    choices, usage = answer["choices"], answer["usage"]
    count = prompts * body.get("n", 1)
    seen.check([c["index"] for c in choices] == list(range(count)), "indices of choices")
    seen.check({c["finish_reason"] for c in choices} <= REASONS, f"finish reasons: {choices}")
    seen.check(0 < usage["completion_tokens"] <= count * body["max_tokens"], f"usage: {usage}")
    seen.check(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], "sum of usage")


async def watch(process: psutil.Process, seen: Seen, began: float) -> None:
    while True:
        seen.rss_bytes.append((time.monotonic() - began, process.memory_info().rss))
        seen.files.append(process.num_fds())
        await asyncio.sleep(0.5)


async def tell(path: Path, seen: Seen) -> None:
    """Print what the server says of its memory, as it comes."""
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines[len(seen.parts) :]:
            seen.parts.append(json.loads(line))
            print(f"{sum(seen.counts.values()):>8,} requests; {described(seen.parts[-1])}", flush=True)
        await asyncio.sleep(0.5)


PARTS = {"keys_values": "keys and values", "malloc_used": "malloc", "malloc_free": "malloc, free", "python": "Python",
         "stacks": "stacks", "files": "files", "other": "other"}  # fmt: skip


def described(parts: dict[str, Any]) -> str:
    told = [f"{name} {parts[part] / 2**20:,.1f}" for part, name in PARTS.items() if part in parts]
    return f"{parts['seconds']:>7,.0f} s: {parts['rss'] / 2**20:,.1f} MiB = {' + '.join(told)}"


async def load(
    url: str, process: psutil.Process, seconds: float, connections: int, told: Path, patience: float = 600.0
) -> Seen:
    """Ask for so long, then wait until the server is idle. `told` is where it says what its memory is made of."""
    seen, began = Seen(), time.monotonic()
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(base_url=url, limits=limits) as client:

        async def worker(number: int) -> None:
            rng = random.Random(number)
            while time.monotonic() - began < seconds:
                await ask(client, rng, seen, patience)

        watching = [asyncio.create_task(watch(process, seen, began)), asyncio.create_task(tell(told, seen))]
        await asyncio.gather(*(worker(number) for number in range(connections)))
        for one in watching:
            one.cancel()
        for _ in range(300):
            metrics = (await client.get("/metrics", timeout=patience)).text
            if "num_requests_running 0.0" in metrics and "num_requests_waiting 0.0" in metrics:
                break
            await asyncio.sleep(0.2)
        else:
            seen.check(False, "the server is not idle after a minute")
    await asyncio.sleep(1)  # connections are closed
    seen.files.append(process.num_fds())
    return seen


def held(seen: Seen) -> list[tuple[float, int]]:
    """(seconds, bytes): memory without that of keys and values, which is taken from the system as it is used first."""
    told = [(one["seconds"], one["rss"] - one["keys_values"]) for one in seen.parts if one["keys_values"]]
    return told if len(told) >= 9 else seen.rss_bytes


def third_on(samples: list[tuple[float, int]], first: int, last: int = 3) -> list[tuple[float, int]]:
    """The samples from the end of one third to that of another."""
    begin, end = samples[0][0], samples[-1][0]
    low, high = (begin + (end - begin) * third / 3 for third in (first, last))
    return [(at, size) for at, size in samples if low <= at <= high]


def bytes_per_hour(seen: Seen) -> float:
    """The slope of `held` since the first third, by least squares."""
    return statistics.linear_regression(*zip(*third_on(held(seen), 1), strict=True)).slope * 3600


def growth(seen: Seen) -> float:
    """`held` in the last third over that in the second, medians."""
    second, last = (statistics.median(size for _, size in third_on(held(seen), n, n + 1)) for n in (1, 2))
    return last / second


def more(seen: Seen) -> str:
    """What became more from the first third's end to the last sample, part by part."""
    if len(seen.parts) < 3:
        return "unknown: too short"
    first, last = seen.parts[len(seen.parts) // 3], seen.parts[-1]
    told = [f"{name} {(last[part] - first[part]) / 2**20:+,.1f}" for part, name in PARTS.items() if part in last]
    blocks = last["python_blocks"] - first["python_blocks"]
    return f"{', '.join(told)} MiB; {blocks:+,} of {last['python_blocks']:,} objects of Python"


def slopes(seen: Seen, windows: int = 6) -> list[float]:
    """MiB an hour in each of so many windows of the run."""
    end, found = seen.rss_bytes[-1][0], []
    for number in range(windows):
        inside = [
            (at, rss) for at, rss in seen.rss_bytes if number * end / windows <= at <= (number + 1) * end / windows
        ]
        found.append(statistics.linear_regression(*zip(*inside, strict=True)).slope * 3600 / 2**20)
    return found


def run(seconds: float, connections: int, home: Path, patience: float = 600.0, every: float = 0.0) -> Seen:
    """Start a server, load it, stop it, and look at what it left."""
    folder = runpy.run_path(str(PROJECT / "tests" / "tiny_model.py"))["make_tiny_model"](home / "tiny", context=2048)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(folder), str(port), str(home / "ws")]
    command += [str(PROJECT / "benchmarks" / "server_memory.py"), str(home / "memory.jsonl")]
    command.append(str(every or max(2.0, min(60.0, seconds / 30))))
    log = (home / "server.log").open("wb")
    server = subprocess.Popen(command, env={**os.environ, "BLOOMERY_API_KEY": ""}, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(1_500):  # five minutes: a busy machine takes its time
            if server.poll() is not None:
                raise SystemExit((home / "server.log").read_text())
            try:
                if httpx.get(f"{url}/health", timeout=1).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        process, told = psutil.Process(server.pid), home / "memory.jsonl"
        seen = asyncio.run(load(url, process, seconds, connections, told, patience))
    finally:
        server.terminate()
        try:
            server.wait(patience)
        except subprocess.TimeoutExpired:
            server.kill()
            raise
        finally:
            log.close()
    said = (home / "server.log").read_text()
    if "Traceback" in said:
        seen.check(False, "a traceback: " + said[said.index("Traceback") :][:4_000])
    answered = seen.counts["whole"] + seen.counts["streamed"] + seen.counts["left a stream"]
    from bloomery.core.workspace import Workspace

    workspace = Workspace(home / "ws")
    rows = workspace.ledger.requests(limit=10_000_000)
    workspace.ledger.close()
    seen.check(len(rows) >= answered, f"{answered} requests were answered, {len(rows)} are written down")
    lost = seen.ids - {row["id"] for row in rows}
    seen.check(not lost, f"{len(lost)} answers are not written down")
    with closing(sqlite3.connect(home / "ws" / "requests.sqlite")) as kept:
        count = kept.execute("SELECT count(*) FROM requests").fetchone()[0]
    seen.check(0 < count < 1000 + 64, f"{count} requests are kept, of at most 1000")
    seen.check(
        seen.files[-1] <= max(seen.files[: len(seen.files) // 3 + 1]), f"open files at the end: {seen.files[-1]}"
    )
    seen.check({row["status"] for row in rows} <= {200, 499, 504}, "a request failed")
    if seconds >= 60:
        seen.check(growth(seen) < 1.05, f"memory grew {growth(seen):.3f} times from the second third to the last")
    if seconds >= 1800:  # before that the caches are still filling
        slope = bytes_per_hour(seen) * seconds / 3600 / held(seen)[-1][1]
        seen.check(slope < 0.08, f"memory grows by {slope:.1%} over the run")
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--patience", type=float, default=600.0, help="seconds without a byte until an answer is lost")
    parser.add_argument(
        "--every", type=float, default=0.0, help="seconds from one look at memory to the next; 0: as fits"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bloomery-load-") as home:
        seen = run(options.seconds, options.connections, Path(home), options.patience, options.every)
    first, last = seen.rss_bytes[len(seen.rss_bytes) // 3][1], seen.rss_bytes[-1][1]
    print(f"{options.connections} connections, {options.seconds:,.0f} s: {dict(seen.counts)}")
    print(f"memory {first / 2**20:,.0f} MiB after a third, {last / 2**20:,.0f} MiB at the end")
    slope = bytes_per_hour(seen) / 2**20
    print(f"keys and values left out, since the first third: {growth(seen):.3f} times, {slope:+,.1f} MiB an hour")
    print(f"open files at the end: {seen.files[-1]}")
    print(f"MiB an hour in each sixth: {', '.join(f'{one:+,.0f}' for one in slopes(seen))}")
    print(f"since the first third: {more(seen)}")
    for what, count in Counter(seen.wrong).most_common(20):
        print(f"wrong, {count} times: {what}")
    print("nothing was lost" if not seen.wrong else f"{len(seen.wrong)} things are wrong")
    sys.exit(bool(seen.wrong))


if __name__ == "__main__":
    main()
