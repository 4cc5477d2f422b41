"""What the trials of robustness share: children that may die, a small gallery with its encoder, and what an index holds.

from trials import in_child
"""

import json
import os
import pickle
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.errors import HdmlError

DIMENSION = 32
_ROUNDING = 1e-5  # by which embeddings of one photo differ between batches

# Read when numpy and faiss are imported, which the parent of all children does but once.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        signal: that killed it, 0 when none did; SIGALRM when it took too long.
        answer: what it returned; None when it did not get so far.
        sentence: of the HdmlError that it raised.
        traceback: of anything else that it raised.
    """

    signal: int = 0
    answer: Any = None
    sentence: str | None = None
    traceback: str | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong with a child that ended in another way than by returning; None when nothing is."""
        if self.signal == signal.SIGALRM:
            return "hung"
        if self.signal:
            return f"crashed with signal {signal.Signals(self.signal).name}"
        return self.traceback or self.sentence


def in_child(work: Callable[[], Any], place: Path, *, limit_s: float = 60.0, kill_after_s: float | None = None) -> Ended:
    """Do some work in a forked process: it has all modules loaded, and no file, thread or session of another trial.

    Args:
        place: a folder for its answer.
        limit_s: after which it is killed for hanging.
        kill_after_s: after which it is killed in any case.
    """
    told = place / "answer.pickle"
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _work_and_end(work, told)
    began, limit = time.monotonic(), limit_s if kill_after_s is None else kill_after_s
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() - began > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Ended(signal=signal.SIGALRM if kill_after_s is None else signal.SIGKILL)
        time.sleep(0.002)
    if os.WIFSIGNALED(ended[1]):
        return Ended(signal=os.WTERMSIG(ended[1]))
    answered: Ended = pickle.loads(told.read_bytes())  # noqa: S301 - written by this program a moment ago
    return answered


def _work_and_end(work: Callable[[], Any], told: Path) -> None:
    try:
        ended = Ended(answer=work())
    except HdmlError as error:
        ended = Ended(sentence=str(error))
    except BaseException:  # noqa: BLE001 - that of a child is told by its parent
        ended = Ended(traceback=traceback.format_exc())
    try:
        file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)  # Python's own open may be watched
        content = memoryview(pickle.dumps(ended))
        while content:
            content = content[os.write(file, content) :]
    finally:
        os._exit(0)


Shapes = Mapping[str, Sequence[str | int]]


def write_small_encoder(path: Path, *, seed: int = 0, dimension: int = DIMENSION) -> None:
    """An ONNX encoder of 32 px: average colours on a 4 × 4 grid and a linear head of that seed."""
    from onnx import helper

    from indexing.encoder import EncoderMetadata
    from indexing.preprocess import evaluation_preprocessing

    random = np.random.default_rng(seed)
    weights = {"head": random.standard_normal((3 * 4 * 4, dimension)) / 7, "bias": random.standard_normal(dimension) / 10}
    nodes = [
        helper.make_node("AveragePool", ["images"], ["feature_map"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["feature_map"], ["features"]),
        helper.make_node("Gemm", ["features", "head", "bias"], ["raw"]),
        helper.make_node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["raw", "length"], ["embedding"]),
        helper.make_node("ReduceL2", ["raw"], ["norm"], axes=[1], keepdims=0),
    ]
    inputs: Shapes = {"images": ["batch", 3, 32, 32]}
    outputs: Shapes = {"embedding": ["batch", dimension], "norm": ["batch"], "feature_map": ["batch", 3, 4, 4]}
    about = EncoderMetadata(dimension, evaluation_preprocessing(32), "l2", f"{seed:016x}", "small", "none", "0.1.0")
    _write_network(path, nodes, inputs, outputs, weights, about.to_json())


def write_small_synthesizer(path: Path) -> None:
    """One that belongs to that encoder: it pulls all negatives half of the way, and mixes what it generates a little."""
    from onnx import helper

    mixing = 0.95 * np.eye(DIMENSION) + 0.05 * np.roll(np.eye(DIMENSION), 1, axis=0)
    nodes = [
        helper.make_node("Sub", ["negatives", "anchors"], ["to_negative"]),
        helper.make_node("Mul", ["to_negative", "lambda"], ["step"]),
        helper.make_node("Add", ["anchors", "step"], ["moved"]),
        helper.make_node("Mul", ["positives", "nothing"], ["unused"]),
        helper.make_node("Add", ["moved", "unused"], ["pulled"]),
        helper.make_node("MatMul", ["pulled", "mixing"], ["synthetic"]),
    ]
    rows: list[str | int] = ["batch", DIMENSION]
    inputs: Shapes = {"anchors": rows, "positives": rows, "negatives": rows, "lambda": []}
    about = json.dumps({"format": 1, "fingerprint": f"{0:016x}", "lambda": 0.5, "loss": "npair"})
    weights = {"mixing": mixing, "nothing": np.zeros(1)}
    _write_network(path, nodes, inputs, {"pulled": rows, "synthetic": rows}, weights, about)


def _write_network(
    path: Path,
    nodes: list[Any],
    inputs: Shapes,
    outputs: Shapes,
    weights: Mapping[str, NDArray[np.float64]],
    metadata: str,
) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from indexing.encoder import put_metadata

    told = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in of.items()] for of in (inputs, outputs)
    ]
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, path.stem, told[0], told[1], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    put_metadata(path, metadata)


def draw_gallery(folder: Path, *, species: int = 12, images: int = 9) -> None:
    """A gallery of drawn butterflies, 48 px wide; 108 are enough to calibrate scores."""
    from hdml.butterflies import write_butterflies

    write_butterflies(folder, species=species, images=images, size=48, workers=1)


@dataclass(frozen=True)
class Row:
    """What a catalogue holds of an item; ``vectors`` by the number of their model, [D] each."""

    path: str
    state: str
    label: str | None
    attributes: str
    vectors: dict[int, NDArray[np.float32]]


Contents = dict[int, Row]

_CONTENTS = """
SELECT items.id, path, state, label, attributes, model, vector FROM items LEFT JOIN vectors ON item = items.id ORDER BY items.id
"""


def contents(connection: sqlite3.Connection) -> Contents:
    """All items of a catalogue by their ids, those that are gone or unreadable included."""
    found: Contents = {}
    for item, path, state, label, attributes, model, vector in sqlite3.Connection.execute(connection, _CONTENTS):
        row = found.setdefault(item, Row(path, state, label, attributes, {}))
        if vector is not None:
            row.vectors[model] = np.frombuffer(vector, np.float32)
    return found


def same_contents(one: Contents | None, other: Contents | None) -> bool:
    """Whether two catalogues, None for none, hold the same items under the same ids, vectors as near as batches allow."""
    if one is None or other is None:
        return one is other
    return one.keys() == other.keys() and all(same_row(row, other[item]) for item, row in one.items())


def same_row(one: Row, other: Row) -> bool:
    """Whether two items are the same in all but their ids."""
    told = [(row.path, row.state, row.label, row.attributes, row.vectors.keys()) for row in (one, other)]
    return told[0] == told[1] and all(np.allclose(one.vectors[of], other.vectors[of], atol=_ROUNDING) for of in one.vectors)


def read_contents(index_dir: Path) -> Contents | None:
    """All items of an index; None when there is none. Its catalogue may be left for others to open, as after a kill."""
    from indexing.catalogue import CATALOGUE, has_catalogue
    from indexing.database import connect

    if not has_catalogue(index_dir):
        return None
    connection = connect(index_dir / CATALOGUE)
    try:
        return contents(connection)
    finally:
        connection.close()


Answers = list[list[tuple[int, str, float]]]
"""Of some searches: id, path and score of each result."""


def search_all(index_dir: Path, *, queries: int = 5, k: int = 10) -> Answers:
    """What searches from some of an index's own vectors find."""
    from indexing.search import OpenIndex

    with OpenIndex(index_dir, device="cpu") as opened:
        items = opened.catalogue.items()
        chosen = items[:: max(1, len(items) // queries)][:queries]
        found = [opened.search_vector(item.vector, k=k) for item in chosen]
    return [[(result.id, result.path, result.score) for result in results] for results in found]


def search_by_hand(rows: Contents, model: int = 1, *, queries: int = 5, k: int = 10) -> Answers:
    """The same, by comparing every vector with every other."""
    ready = [(item, row) for item, row in rows.items() if row.state == "ready"]
    answers: Answers = []
    if not ready:
        return answers
    matrix = np.stack([row.vectors[model] for _, row in ready])
    for place in range(0, len(ready), max(1, len(ready) // queries)):
        scores = matrix @ matrix[place]
        best = np.lexsort((np.arange(len(ready)), -scores))[:k]
        answers.append([(ready[at][0], ready[at][1].path, float(scores[at])) for at in best])
    return answers[:queries]


def same_answers(one: Answers, other: Answers) -> bool:
    """Whether searches found as high scores, and by them the same photos; equal scores may stand in any order."""
    if [len(results) for results in one] != [len(results) for results in other]:
        return False
    for ours, theirs in zip(one, other, strict=True):
        if not np.allclose([score for *_, score in ours], [score for *_, score in theirs], atol=_ROUNDING):
            return False
        last = ours[-1][2] + 2 * _ROUNDING if ours else 0.0
        if {path for _, path, score in ours if score > last} - {path for _, path, _ in theirs}:
            return False
    return True
