"""Measures against plain loops, scikit-learn and pytorch-metric-learning."""

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
from hdml.evaluate import DISTRACTOR, cluster, evaluate_embeddings, nmi, pair_f1


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
