"""Many clients at once on ``/v1/search``, while the index grows and its base is swapped, beside a bare ASGI route.

    python benchmarks/load.py [--items N] [--queries N] [--clients N] [--rounds N] [--keep FOLDER] [--json FILE]

The vectors and the index are those of ``scale_query.py``. Clients with connections of their own ask for the ten photos most like
one of the index, one question after the other, until all questions are answered. Meanwhile another process stores 1,000 more
vectors and builds a new base, which the server takes up. The subjects take turns, each in a process of its own: ``hdml serve``,
and the floor, an ASGI function without framework, checks, logs or metrics that calls the same search and writes the same
answer. A question that is not answered with ten results within a minute has failed. The target is a p95 of at most 1.3 times
the floor's.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import faiss as typed
import numpy as np
from scale_query import import_set
from served import HDML, HOST, free_port, running
from vectors import drawn, read_figures, write_set

from indexing.catalogue import Catalogue
from indexing.index import cached_sequences
from indexing.indexer import merge
from indexing.intake import GivenVector
from indexing.lock import indexing_alone

faiss: Any = typed  # its stubs lack what is needed here
ADDED, K, PATIENCE_S = 1000, 10, 60.0
HEADING = """\
| served by | questions | failed | swapped | queries/s | p50, ms | p95, ms | p99, ms |
|---|---|---|---|---|---|---|---|"""


def serve_floor(index_dir: Path, port: int) -> None:
    """The floor: what is left when everything but the search is left out."""
    import uvicorn
    from anyio import to_thread

    from app.handlers import search
    from app.questions import Question
    from indexing.queries import Query
    from indexing.search import OpenIndex

    opened = OpenIndex(index_dir, device="cpu")

    def answer(item: int) -> bytes:
        return json.dumps(search(opened, Question(Query(item=item), k=K))).encode()

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked = parse_qs(scope["query_string"].decode())
        body = await to_thread.run_sync(answer, int(asked["id"][0])) if asked else b"{}"
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(bare, host=HOST, port=port, log_level="error", access_log=False, lifespan="off")


def swap(index_dir: Path, seed: int) -> None:
    """Store more vectors as an indexer does, and build the base anew, once a line is read."""
    vectors = drawn(read_figures(), ADDED, seed=seed)
    rows = [GivenVector(f"new {seed}/{row}.jpg", None, "{}", 1.0, one.tobytes()) for row, one in enumerate(vectors)]
    print("ready", flush=True)
    input()
    with indexing_alone(index_dir), Catalogue(index_dir) as catalogue:
        catalogue.begin_table()
        catalogue.take_in(rows)
        merge(index_dir, catalogue, share=0.0)


async def ask(port: int, items: "asyncio.Queue[int]", took_ms: list[float], failures: list[str]) -> None:
    """One client: a connection, kept, and a question after the other."""
    reader, writer = await asyncio.open_connection(HOST, port)
    while not items.empty():
        item = items.get_nowait()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(f"POST /v1/search?k={K}&id={item} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                body = await reader.readexactly(length)
            if " 200 " not in head.splitlines()[0] or len(json.loads(body)["results"]) != K:
                failures.append(f"{head.splitlines()[0]}: {body[:200]!r}")
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            failures.append(repr(error))
            writer.close()
            reader, writer = await asyncio.open_connection(HOST, port)
        took_ms.append(1000 * (time.perf_counter() - began))
    writer.close()


async def ask_all(port: int, items: list[int], clients: int) -> tuple[list[float], list[str], float]:
    waiting: asyncio.Queue[int] = asyncio.Queue()
    for item in items:
        waiting.put_nowait(item)
    took_ms: list[float] = []
    failures: list[str] = []
    began = time.perf_counter()
    await asyncio.gather(*(ask(port, waiting, took_ms, failures) for _ in range(clients)))
    return took_ms, failures, time.perf_counter() - began


def measure(name: str, index_dir: Path, ids: list[int], *, clients: int, seed: int) -> dict[str, Any]:
    port = free_port()
    served: list[str | Path] = [HDML, "serve", "--api-only", "--device", "cpu", "--port", str(port), "--index", index_dir]
    floor: list[str | Path] = [sys.executable, __file__, "--floor", index_dir, "--port", str(port)]
    with running(served if name == "hdml serve" else floor, port, ready="/readyz"):
        asyncio.run(ask_all(port, ids[:clients], clients))  # to warm up
        before = cached_sequences(index_dir)
        command = [sys.executable, __file__, "--swap", str(index_dir), "--seed", str(seed)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdout.readline()
            writer.stdin.write(b"go\n")
            writer.stdin.close()
            took_ms, failures, seconds = asyncio.run(ask_all(port, ids, clients))
            swapped = cached_sequences(index_dir) != before
        if writer.returncode:
            raise RuntimeError("the process that grows the index failed")
    return {
        "served_by": name,
        "queries": len(took_ms),
        "failed": len(failures),
        "reasons": failures[:3],
        "swapped_meanwhile": swapped,
        "queries_per_s": len(took_ms) / seconds,
        **{f"p{rank}_ms": float(np.percentile(took_ms, rank)) for rank in (50, 95, 99)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Many clients at once, while the index changes.")
    parser.add_argument("--items", type=int, default=100_000, help="vectors (default: 100000)")
    parser.add_argument("--queries", type=int, default=2000, help="questions of each round (default: 2000)")
    parser.add_argument("--clients", type=int, default=50, help="clients at once (default: 50)")
    parser.add_argument("--rounds", type=int, default=3, help="times each is measured, in turn (default: 3)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the set and the index are, or are to stay")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--floor", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--swap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.floor is not None:
        serve_floor(options.floor, options.port)
        return
    if options.swap is not None:
        swap(options.swap, options.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        home = options.keep or Path(folder)
        if not (home / "set").exists():
            write_set(home / "set", options.items)
        base, _ = import_set(home, 0.99)
        index_dir = home / "workspace" / "indexes" / "set"
        known = faiss.vector_to_array(base.id_map)
        random, rounds = np.random.default_rng(5), []
        seed = int(time.time())
        print(HEADING)
        for _ in range(options.rounds):
            ids = random.choice(known, options.queries).tolist()
            for name in ("floor", "hdml serve"):
                rounds.append(one := measure(name, index_dir, ids, clients=options.clients, seed=(seed := seed + 1)))
                figures = " | ".join(f"{one[key]:.1f}" for key in ("queries_per_s", "p50_ms", "p95_ms", "p99_ms"))
                print(f"| {name} | {one['queries']} | {one['failed']} | {one['swapped_meanwhile']} | {figures} |", flush=True)
    ratios = {key: ratio(rounds, key) for key in ("p95_ms", "queries_per_s")}
    print(f"\nhdml serve / floor, medians: p95 {ratios['p95_ms']:.2f}, queries a second {ratios['queries_per_s']:.2f}")
    if options.json is not None:
        given = {"items": options.items, "clients": options.clients, "ratios": ratios, "rounds": rounds}
        options.json.write_text(json.dumps(given, indent=1) + "\n", encoding="utf-8")


def ratio(rounds: list[dict[str, Any]], key: str) -> float:
    served, floor = (np.median([one[key] for one in rounds if one["served_by"] == name]) for name in ("hdml serve", "floor"))
    return float(served / floor)


if __name__ == "__main__":
    main()
