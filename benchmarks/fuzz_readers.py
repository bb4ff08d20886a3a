"""Fuzz of the readers: mutated WARC, ARC, HTML, PDF, FASTA, FASTQ, GenBank, Parquet, CSV, JSONL and GGUF; no crash, no
hang.

    python benchmarks/fuzz_readers.py            # ten minutes
    python benchmarks/fuzz_readers.py 3600 17    # an hour, from seed 17

Each case is a sound file with bytes flipped, cut, doubled or filled, and sometimes packed; it is read as `curate`
reads it: files that pages are taken from in a process of their own. A GGUF file is read as `import` reads it. A case
fails if anything but a BloomeryError comes out, a document is not UTF-8 or its metadata not JSON, or it takes longer
than SLOW_SECONDS of this process's time. The seed of a failing case is printed, and its file kept. It ends with exit
code 1 if there was one. Seeds are looked for in $BLOOMERY_DATA, or in ../shared/data; without it, small files made here
are mutated.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import zstandard

from bloomery.core.errors import BloomeryError
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.formats import extracted, format_of
from bloomery.corpus.problems import Problems
from bloomery.corpus.reader_pool import ReaderPool
from bloomery.corpus.readers import read_file
from bloomery.corpus.source_file import SourceFile
from bloomery.corpus.streams import BrokenStream
from bloomery.engine.gguf_import import read_model
from bloomery.tokenizer.description import byte_level_alphabet

DATA = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
SLOW_SECONDS = 60.0
LIMIT_BYTES = 1 << 20
TOKENS = (
    b"\r\n\r\n",
    b"WARC/1.0\r\n",
    b"Content-Length: ",
    b"-1",
    b"99999999999",
    b'"',
    b"<div>",
    b"\0",
    b"%PDF-",
    b">",
)
TOKENS += (
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\xff\xfe",
    b"@",
    b"+\n",
    b"LOCUS ",
    b"//\n",
    b"obj\n<<",
    b"endstream",
    b"\n",
)


def seeds() -> list[tuple[str, bytes]]:
    """(suffix, bytes) of sound files to start from."""
    found = list(_made())
    folder = DATA / "web" / "warc"
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    small = [path for path in paths if path.is_file() and path.stat().st_size < 60_000]
    return found + [(path.name[path.name.index(".") :], path.read_bytes()) for path in small]


def _made() -> Iterator[tuple[str, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from matplotlib.figure import Figure

    page = (
        b"<html lang=en><title>t</title><main><p>" + b"Some words stand <b>here</b>. " * 20 + b"<a href=http://a.org>x"
    )
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(page)
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"
    record = head % len(http) + http + b"\r\n\r\n"
    yield ".warc", record * 3
    yield ".warc.gz", gzip.compress(record) * 3
    yield ".warc.zst", zstandard.ZstdCompressor().compress(record) * 3
    line = b"http://a.org/ 1.2.3.4 20200101000000 text/html %d\n" % len(http)
    first = b"filedesc://a.arc 0.0.0.0 20200101000000 text/plain 8\n1 0 Abcd\n\n"
    yield ".arc", first + (line + http + b"\n") * 3
    yield ".html", page
    figure, stream = Figure(), io.BytesIO()
    figure.text(0.1, 0.5, "Some words stand here, see https://a.org")
    figure.savefig(stream, format="pdf", metadata={"CreationDate": None})
    yield ".pdf", stream.getvalue()
    yield ".fasta", b"".join(b">s%d words\nACGTACGT\nACGT\n" % n for n in range(50))
    yield ".fastq", b"".join(b"@s%d\nACGT\n+\n@+II\n" % n for n in range(50))
    feature = b'FEATURES             Location/Qualifiers\n     CDS             1..8\n                     /note="a\n'
    feature += b'                     b"\nORIGIN\n        1 acgtacgt\n//\n'
    yield ".gb", (b"LOCUS       A 8 bp DNA linear BCT 01-JAN-2000\nDEFINITION  D.\nACCESSION   A\n" + feature) * 3
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": [f"t{n}" for n in range(200)], "n": list(range(200))}), stream, row_group_size=50)
    yield ".parquet", stream.getvalue()
    yield ".csv", b"n,text\n" + b"".join(b'%d,"a ""q"",\nline"\n' % n for n in range(100))
    yield ".tsv", b"n\ttext\n" + b"".join(b"%d\tplain\n" % n for n in range(100))
    yield ".jsonl", b"".join(b'{"text": "t%d", "n": [1, {"a": null}]}\n' % n for n in range(100))


def _gguf(folder: Path, *, pieces: bool) -> bytes:
    """A Llama of one layer with 300 tokens: byte-level BPE, or SentencePiece's pieces with bytes."""
    import gguf
    import numpy as np

    writer, rng = gguf.GGUFWriter(folder / "seed.gguf", "llama"), np.random.default_rng(0)
    for add, number in ((writer.add_context_length, 64), (writer.add_embedding_length, 8), (writer.add_block_count, 1)):
        add(number)
    for add, number in ((writer.add_feed_forward_length, 32), (writer.add_head_count, 2)):
        add(number)
    writer.add_layer_norm_rms_eps(1e-5)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if pieces else list(byte_level_alphabet())
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *(f"{one}{two}" for one in "▁abcde" for two in "abcdefg")][:300]
    kinds = [2, 3, 3, *[6 if pieces else 1] * 256, *[1] * (len(tokens) - 259)]
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre("default" if pieces else "qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if pieces:
        writer.add_token_scores([float(-index) for index in range(len(tokens))])
    else:
        writer.add_token_merges([f"{token[0]} {token[1]}" for token in tokens[266:]])
    for add, number in ((writer.add_bos_token_id, 1), (writer.add_eos_token_id, 2), (writer.add_unk_token_id, 0)):
        add(number)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}")
    layer = {"attn_norm": (8,), "ffn_norm": (8,), "ffn_gate": (32, 8), "ffn_up": (32, 8), "ffn_down": (8, 32)}
    layer |= {f"attn_{part}": (8, 8) for part in ("q", "k", "v", "output")}
    shapes = {"token_embd": (len(tokens), 8), "output_norm": (8,), **{f"blk.0.{name}": s for name, s in layer.items()}}
    for name, shape in shapes.items():
        numbers, kind = rng.standard_normal(shape, np.float32), gguf.GGMLQuantizationType.F32
        if name.endswith("down"):
            kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "seed.gguf").read_bytes()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The data with one to eight things done to it."""
    made = bytearray(data)
    for _ in range(rng.randrange(1, 9)):
        place = rng.randrange(len(made) + 1)
        size = min(rng.choice((1, 4, 30, 500)), max(0, len(made) - place))
        match rng.randrange(7):
            case 0:
                made[place : place + size] = rng.randbytes(size)
            case 1:
                del made[place : place + size]
            case 2:
                made[place:place] = made[place : place + size]
            case 3:
                made[place:place] = rng.choice(TOKENS)
            case 4:
                made[place : place + size] = bytes(size)
            case 5:
                made[place:place] = rng.choice(TOKENS) * rng.choice((1, 100, 3000))
            case _:
                del made[place if rng.random() < 0.3 else len(made) :]
    return bytes(made[: 4 * LIMIT_BYTES])


class Fuzz:
    """Reads one case after the other; pages by one pool."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, CurateConfig(max_document_bytes=LIMIT_BYTES, extract_seconds=5)
        self.seeds, self.counts = seeds(), Counter[str]()
        self.seeds += [(".gguf", _gguf(folder, pieces=pieces)) for pieces in (False, True)] * 4
        self.pool = ReaderPool(self.config, 1)

    def case(self, seed: int) -> str:
        """What was wrong with the case of a seed, or ""."""
        rng = random.Random(seed)
        suffix, data = rng.choice(self.seeds)
        data = mutated(data, rng)
        if rng.random() < 0.1 and suffix != ".gguf":
            data, suffix = gzip.compress(data), suffix + ("" if ".warc" in suffix or ".arc" in suffix else ".gz")
        path = self.folder / f"case{suffix}"
        path.write_bytes(data)
        began = time.process_time()
        try:
            self._read(path)
        except BloomeryError as error:
            self.counts["error"] += 1
            if "please report" in error.hint or "died" in error.message:
                return f"{suffix}: {error.one_line()}"
        except Exception as error:
            return f"{suffix}: {type(error).__name__}: {error}"
        finally:
            kept = self.folder / f"seed-{seed}{suffix}"
            path.rename(kept)
        if (spent := time.process_time() - began) > SLOW_SECONDS:
            return f"{suffix}: {spent:.0f} seconds"
        kept.unlink()
        return ""

    def _read(self, path: Path) -> None:
        if path.suffix == ".gguf":
            self.counts["cases"] += 1
            read_model(path)
            self.counts["models"] += 1
            return
        problems = Problems(dropped=lambda reason, *_: self.counts.update([reason]))
        kind = format_of(path)
        self.counts["cases"] += 1
        if extracted(kind):
            documents = self.pool.read([SourceFile(path, named=False)], problems)
        else:
            documents = read_file(path, self.config, problems)
        try:
            for document in documents:
                document.text.encode()
                document.source.encode()
                json.dumps(document.metadata, allow_nan=False).encode()
                self.counts["documents"] += 1
        except BrokenStream as broken:
            self.counts[broken.reason] += 1


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    failed, until = 0, time.monotonic() + seconds
    folder = Path(tempfile.mkdtemp(prefix="fuzz-readers-"))
    fuzz = Fuzz(folder)
    with fuzz.pool:
        while time.monotonic() < until:
            if wrong := fuzz.case(seed):
                failed += 1
                print(f"seed {seed}: {wrong}", flush=True)
            seed += 1
    print(f"{fuzz.counts['cases']:,} cases, {failed} failed; the last seed {seed - 1}")
    print(", ".join(f"{count:,} {reason}" for reason, count in fuzz.counts.most_common() if reason != "cases"))
    print(f"failing files: {folder}" if failed else "no crash and no hang")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
