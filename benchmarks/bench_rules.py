"""Rules against datatrove's filters: the same rules on the same pages, one core, in turn; prints the ratio of times.

Processor time of this process is taken, so that other processes do not count. `first` is the first pass, with nothing
known to either side; `median` and the range are of the passes after it, when words met before are known to both. All
scores are measured here, also of documents that an early rule drops, where datatrove stops. Which language a text is in
is asked on neither side. With --profile it prints where the time of one pass goes.
"""

from __future__ import annotations

import cProfile
import platform
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import peer_datatrove as peer
from bloomery.corpus.judge import Judge

PASSES = 5


def seconds(judge: Callable[[str], object], texts: list[str]) -> float:
    began = time.process_time()
    for text in texts:
        judge(text)
    return time.process_time() - began


def main() -> None:
    texts = [text for sample in peer.SAMPLES for text in peer.texts(sample)]
    size = sum(len(text.encode()) for text in texts)
    versions = f"datatrove {version('datatrove')}, spaCy {version('spacy')}"
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {versions}")
    print(f"{len(texts)} documents, {size / 1e6:.1f} MB")
    if "--profile" in sys.argv[1:]:
        judge = Judge(peer.rules_of("fineweb"))
        with cProfile.Profile() as profile:
            seconds(judge.judge, texts)
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)
        return
    for name in peer.PROFILES:
        ours, theirs = Judge(peer.rules_of(name)).judge, peer.judge(name)
        pairs = [(seconds(ours, texts), seconds(theirs, texts)) for _ in range(1 + PASSES)]
        ratios = [other / mine for mine, other in pairs]
        middle, low, high = statistics.median(ratios[1:]), min(ratios[1:]), max(ratios[1:])
        rate = len(texts) / pairs[0][0]
        print(f"{name}: datatrove / ours {ratios[0]:.2f} first, {middle:.2f} median ({low:.2f} to {high:.2f})", end="")
        print(f"; ours {rate:,.0f} documents/s first")


if __name__ == "__main__":
    main()
