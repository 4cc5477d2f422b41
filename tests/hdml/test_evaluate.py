"""Measures against plain loops, scikit-learn and pytorch-metric-learning."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix

import hdml.evaluate
from hdml.evaluate import DISTRACTOR, RECALL_AT, cluster, evaluate_embeddings, evaluate_retrieval, nmi, pair_f1


def random_set(photos: int = 300, classes: int = 17, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, photos)
    centres = rng.standard_normal((classes, 8))
    embeddings = (centres[labels] + 1.2 * rng.standard_normal((photos, 8))).astype(np.float32)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), labels


def measures_by_loop(embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[dict[int, float], float, float]:
    """Recall@K, MAP@R and R-precision."""
    recalls: dict[int, list[bool]] = {k: [] for k in (1, 2, 4, 8, 10)}
    averages, precisions = [], []
    for query in range(len(labels)):
        relevant = int((labels == labels[query]).sum()) - 1
        if relevant == 0:
            continue
        scores = embeddings @ embeddings[query]
        ranked = [index for index in np.argsort(-scores, kind="stable") if index != query]
        hits = [labels[index] == labels[query] for index in ranked]
        for k, found in recalls.items():
            found.append(any(hits[:k]))
        averages.append(sum(hits[i] * sum(hits[: i + 1]) / (i + 1) for i in range(relevant)) / relevant)
        precisions.append(sum(hits[:relevant]) / relevant)
    return {k: float(np.mean(found)) for k, found in recalls.items()}, float(np.mean(averages)), float(np.mean(precisions))


@pytest.mark.parametrize("scores_at_once", [1, 300 * 7, 1 << 24])
def test_ranked_measures_equal_loop_however_many_queries_go_at_once(scores_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdml.evaluate, "_BLOCK_SCORES", scores_at_once)
    embeddings, labels = random_set()
    found = evaluate_embeddings(embeddings, labels)
    recall, map_at_r, r_precision = measures_by_loop(embeddings, labels)
    assert found.recall_at_k == pytest.approx(recall)
    assert found.map_at_r == pytest.approx(map_at_r)
    assert found.r_precision == pytest.approx(r_precision)


def test_ranked_measures_equal_pytorch_metric_learning() -> None:
    embeddings, labels = random_set(seed=1)
    names = ("precision_at_1", "mean_average_precision_at_r", "r_precision")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", knn_func=CustomKNN(CosineSimilarity()))
    expected = calculator.get_accuracy(torch.from_numpy(embeddings), torch.from_numpy(labels))
    found = evaluate_embeddings(embeddings, labels)
    assert found.recall_at_k[1] == pytest.approx(expected["precision_at_1"])
    assert found.map_at_r == pytest.approx(expected["mean_average_precision_at_r"])
    assert found.r_precision == pytest.approx(expected["r_precision"])


def test_photo_alone_in_its_class_asks_nothing_but_stays_in_the_gallery() -> None:
    embeddings = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6]], np.float32)
    found = evaluate_embeddings(embeddings, np.array([0, 0, 1]))
    assert (found.queries, found.classes) == (2, 2)
    assert found.recall_at_k[1] == 0.0
    assert found.recall_at_k[2] == 1.0


def test_distractors_are_found_ask_nothing_and_count_in_no_class() -> None:
    embeddings, labels = random_set()
    hidden = np.where(labels > 11, DISTRACTOR, labels)
    found = evaluate_embeddings(embeddings, hidden)
    alone = np.where(labels > 11, 100 + np.arange(len(labels)), labels)  # a class of its own for each
    recall, map_at_r, r_precision = measures_by_loop(embeddings, alone)
    assert found.recall_at_k == pytest.approx(recall)
    assert found.map_at_r == pytest.approx(map_at_r)
    assert found.r_precision == pytest.approx(r_precision)
    assert (found.queries, found.classes) == (int((labels <= 11).sum()), 12)
    assert found.nmi == evaluate_embeddings(embeddings[labels <= 11], labels[labels <= 11]).nmi


def test_evaluation_without_any_pair_raises() -> None:
    with pytest.raises(ValueError, match="at least 2 photos"):
        evaluate_embeddings(np.eye(3, dtype=np.float32), np.full(3, DISTRACTOR))
    with pytest.raises(ValueError, match="at least 2 photos"):
        evaluate_embeddings(np.eye(3, dtype=np.float32), np.arange(3))


def test_nmi_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 7, 40):
        labels, clusters = rng.integers(0, classes, 200), rng.integers(0, 9, 200)
        assert nmi(clusters, labels) == pytest.approx(normalized_mutual_info_score(labels, clusters))
    assert nmi(np.zeros(5, int), np.zeros(5, int)) == 1.0


def test_pair_f1_equals_sklearns_confusion_of_pairs() -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 7, 40):
        labels, clusters = rng.integers(0, classes, 200), rng.integers(0, 9, 200)
        (_, apart_alone), (together_alone, both) = pair_confusion_matrix(labels, clusters)
        precision, recall = both / (both + apart_alone), both / (both + together_alone)
        assert pair_f1(clusters, labels) == pytest.approx(2 * precision * recall / (precision + recall))
    assert pair_f1(np.arange(4), np.array([0, 0, 1, 1])) == 0.0
    assert pair_f1(np.array([5, 5, 3]), np.array([0, 0, 1])) == 1.0


def test_nmi_and_f1_are_of_as_many_clusters_as_classes() -> None:
    """K is the number of classes measured on (METHOD, trap 7)."""
    embeddings, labels = random_set()
    clusters = cluster(embeddings, 17, seed=0)
    assert len(np.unique(clusters)) == 17
    assert evaluate_embeddings(embeddings, labels).nmi == nmi(clusters, labels)
    assert evaluate_embeddings(embeddings, labels).f1 == pair_f1(clusters, labels)
    assert evaluate_embeddings(embeddings, labels).nmi != nmi(cluster(embeddings, 98, seed=0), labels)


def outcomes_by_loop(
    queries: NDArray[np.float32], query_labels: NDArray[np.int64], gallery: NDArray[np.float32], gallery_labels: NDArray[np.int64]
) -> list[tuple[int, int, list[bool], float, float]]:
    """For each query with an answer in the gallery: its position, the best answer's, hits at RECALL_AT, AP@R, R-precision."""
    outcomes = []
    for query, label in enumerate(query_labels):
        relevant = 0 if label == DISTRACTOR else int((gallery_labels == label).sum())
        if relevant == 0:
            continue
        ranked = np.argsort(-(gallery @ queries[query]), kind="stable")
        hits = [bool(gallery_labels[index] == label) for index in ranked]
        average = sum(hits[i] * sum(hits[: i + 1]) / (i + 1) for i in range(relevant)) / relevant
        found = [any(hits[:k]) for k in RECALL_AT]
        outcomes.append((query, int(ranked[0]), found, average, sum(hits[:relevant]) / relevant))
    return outcomes


@pytest.mark.parametrize("scores_at_once", [1, 200 * 7, 1 << 24])
def test_retrieval_equals_loop_with_unanswerable_queries_and_distractors(
    scores_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdml.evaluate, "_BLOCK_SCORES", scores_at_once)
    embeddings, labels = random_set()
    queries, query_labels, gallery, gallery_labels = embeddings[:100], labels[:100], embeddings[100:], labels[100:]
    gallery_labels = np.where(gallery_labels == 3, DISTRACTOR, gallery_labels)  # queries of class 3 have nothing to find
    query_labels = np.where(query_labels == 5, DISTRACTOR, query_labels)
    expected = outcomes_by_loop(queries, query_labels, gallery, gallery_labels)
    found = evaluate_retrieval(queries, query_labels, gallery, gallery_labels)
    asked, nearest, hits, averages, precisions = (np.array(column) for column in zip(*expected, strict=True))
    assert 0 < found.queries == len(expected) == int(((query_labels != 3) & (query_labels != DISTRACTOR)).sum())
    np.testing.assert_array_equal(found.outcomes.queries, asked)
    np.testing.assert_array_equal(found.outcomes.nearest, nearest)
    np.testing.assert_array_equal(np.stack([found.outcomes.hit_at_k[k] for k in RECALL_AT], axis=1), hits)
    np.testing.assert_allclose(found.outcomes.average_precision_at_r, averages)
    np.testing.assert_allclose(found.outcomes.r_precision, precisions)
    assert found.recall_at_k == pytest.approx(dict(zip(RECALL_AT, hits.mean(0), strict=True)))
    assert found.map_at_r == pytest.approx(averages.mean())
    assert found.r_precision == pytest.approx(precisions.mean())


def test_query_to_gallery_answers_itself_where_the_same_photos_are_the_gallery() -> None:
    embeddings, labels = random_set(photos=60, classes=30)
    found = evaluate_retrieval(embeddings, labels, embeddings, labels)
    np.testing.assert_array_equal(found.outcomes.nearest, np.arange(60))
    assert found.recall_at_k[1] == 1.0
    assert found.queries == 60  # those alone in their class find themselves


def test_gallery_smaller_than_every_k_is_ranked_whole() -> None:
    queries, gallery = np.eye(3, dtype=np.float32)[:1], np.eye(3, dtype=np.float32)[1:]
    found = evaluate_retrieval(queries, np.array([0]), gallery, np.array([1, 0]))
    assert found.recall_at_k == {1: 0.0, 2: 1.0, 4: 1.0, 8: 1.0, 10: 1.0}  # equal scores go by position
    assert (found.map_at_r, found.classes) == (0.0, 2)


def test_retrieval_clusters_queries_and_gallery_together() -> None:
    embeddings, labels = random_set()
    found = evaluate_retrieval(embeddings[:100], labels[:100], embeddings[100:], labels[100:])
    clusters = cluster(embeddings, 17, seed=0)
    assert (found.classes, found.nmi, found.f1) == (17, nmi(clusters, labels), pair_f1(clusters, labels))


def test_retrieval_without_a_class_in_common_raises() -> None:
    photos = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="a query whose class has a photo in the gallery"):
        evaluate_retrieval(photos, np.array([0, 1, DISTRACTOR]), photos, np.array([2, 3, DISTRACTOR]))


def test_outcomes_of_one_set_are_the_rows_behind_the_means() -> None:
    embeddings, labels = random_set(photos=120, classes=40)
    found = evaluate_embeddings(embeddings, labels)
    alone = np.bincount(labels)[labels] == 1
    np.testing.assert_array_equal(found.outcomes.queries, np.flatnonzero(~alone))
    scores = embeddings @ embeddings.T
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_array_equal(found.outcomes.nearest, scores.argmax(1)[~alone])
    np.testing.assert_array_equal(found.outcomes.hit_at_1, labels[found.outcomes.nearest] == labels[~alone])
    assert 0 < found.recall_at_k[1] == found.outcomes.hit_at_1.mean() < 1


def test_gpu_ranks_as_the_cpu_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("ranking on a GPU needs one that torch can use")
    embeddings, labels = random_set()
    on_gpu, on_cpu = (evaluate_embeddings(embeddings, labels, device=device) for device in ("cuda", "cpu"))
    np.testing.assert_array_equal(on_gpu.outcomes.nearest, on_cpu.outcomes.nearest)
    assert on_gpu.recall_at_k == on_cpu.recall_at_k
    assert on_gpu.map_at_r == pytest.approx(on_cpu.map_at_r)
    assert on_gpu.nmi == pytest.approx(on_cpu.nmi, abs=0.1)  # k-means adds up in another order there


def test_peak_memory_stays_below_the_scores_of_all_pairs(tmp_path: Path) -> None:
    """20,000 photos: 1.6 GB of scores, of which a block at a time is held."""
    benchmark, answer = Path(__file__).parents[2] / "benchmarks" / "evaluation_memory.py", tmp_path / "answer.json"
    size = ("--photos", "20000", "--classes", "40", "--dimension", "8")
    subprocess.run([sys.executable, benchmark, *size, "--json", answer], check=True, stdout=subprocess.DEVNULL)
    measured = json.loads(answer.read_text())
    assert measured["all_pairs_bytes"] == 20000 * 20000 * 4
    assert measured["peak_bytes"] - measured["start_bytes"] < measured["all_pairs_bytes"] / 2


def test_importing_the_measures_loads_neither_torch_nor_faiss() -> None:
    program = "import sys, hdml.evaluate; sys.exit('torch' in sys.modules or 'faiss' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
