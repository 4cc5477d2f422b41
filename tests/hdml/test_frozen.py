"""Arms that do not train, measured as a run is."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from hdml.arms import Frozen
from hdml.fit import export_untrained, plan_run
from hdml.frozen import Whitening, measure_frozen
from hdml.measure import evaluate_encoder
from hdml.outcomes import read_outcomes
from hdml.run import read_record
from hdml.watcher import Silent
from indexing.errors import HdmlError
from tests.conftest import SHAPES_PER_CLASS, write_stranger

CPU = torch.device("cpu")
SETTINGS = {"weights": "none", "image_size": 32, "steps": 1, "test_classes": "last:3", "classes_per_batch": 4, "seed": 0}


class Untrained(Silent):
    """Watches that nothing trains."""

    def step(self, progress: object) -> None:
        raise AssertionError("nothing trains here")


def measured(shapes: Path, run: Path, frozen: Frozen) -> dict[str, object]:
    plan_run(shapes, run, watcher=Untrained(), **SETTINGS)
    measure_frozen(run, frozen, device=CPU, watcher=Untrained())
    return read_record(run)


def test_starting_weights_are_measured_on_the_test_classes(shapes: Path, tmp_path: Path) -> None:
    record = measured(shapes, tmp_path / "run", Frozen(whiten=False))
    assert (record["status"], record["measured_on"]) == ("finished", "test")
    assert record["before"] == record["after"]
    found = read_outcomes(tmp_path / "run")
    assert len(found.of_queries.queries) == 3 * SHAPES_PER_CLASS
    assert found.of_queries.hit_at_1.mean() == record["after"]["recall_at_k"]["1"]
    asked = [found.labels[query] for query in found.of_queries.queries]
    nearest = [found.labels[answer] for answer in found.of_queries.nearest]
    hits = [label == answer for label, answer in zip(asked, nearest, strict=True)]
    assert hits == found.of_queries.hit_at_1.tolist()


def test_an_exported_encoder_answers_as_the_weights_that_it_came_from(shapes: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_untrained(
        tmp_path / "exported", backbone="resnet18", weights="none", image_size=32, photos=sorted(shapes.glob("*/0.jpg"))
    )
    by_weights = measured(shapes, tmp_path / "weights", Frozen(whiten=False))
    by_encoder = measured(shapes, tmp_path / "encoder", Frozen(False, tmp_path / "exported" / "encoder.onnx"))
    assert by_encoder["after"]["map_at_r"] == pytest.approx(by_weights["after"]["map_at_r"], abs=1e-3)
    assert "before" not in by_encoder, "another network's figures would be taken for those of the starting weights"
    model = onnx.load(tmp_path / "exported" / "encoder.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "stranger.onnx")
    by_stranger = measured(shapes, tmp_path / "stranger", Frozen(False, tmp_path / "stranger.onnx"))
    assert by_stranger["after"] == by_encoder["after"], "without metadata, the same is assumed of it"


def test_photo_that_cannot_be_read_is_left_out_of_every_frozen_arm(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    shutil.copytree(shapes, folder)
    asked = sorted(folder.iterdir())[-1]
    (asked / "0.jpg").write_text("a note")
    stranger = write_stranger(tmp_path / "stranger.onnx")
    for number, frozen in enumerate((Frozen(False), Frozen(False, stranger), Frozen(True, stranger))):
        record = measured(folder, tmp_path / f"run{number}", frozen)
        assert (record["status"], record["after"]["queries"]) == ("finished", 3 * SHAPES_PER_CLASS - 1)


def test_photo_without_an_embedding_is_named_since_arms_are_paired_by_photo(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    shutil.copytree(shapes, folder)
    dark = sorted(folder.iterdir())[-1] / "0.jpg"
    Image.new("RGB", (40, 40)).save(dark)
    stranger = write_stranger(tmp_path / "stranger.onnx", outputs=["roots"])
    with pytest.raises(HdmlError, match=rf"stranger\.onnx {dark.relative_to(folder)} fails \(the encoder gives no finite"):
        measured(folder, tmp_path / "run", Frozen(False, stranger))
    found = evaluate_encoder(stranger, folder, "last:3", device="cpu", on_progress=lambda done, total: None)
    assert found.photos == 3 * SHAPES_PER_CLASS - 1, "by itself it is measured without"


def test_whitening_changes_the_answers_and_says_nothing_of_before(shapes: Path, tmp_path: Path) -> None:
    plain = measured(shapes, tmp_path / "plain", Frozen(whiten=False))
    whitened = measured(shapes, tmp_path / "whitened", Frozen(whiten=True))
    assert whitened["after"] != plain["after"]
    assert "before" not in whitened


def test_file_that_is_no_encoder_is_refused(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"not a network")
    with pytest.raises(HdmlError, match=r"encoder\.onnx"):
        measured(shapes, tmp_path / "run", Frozen(False, tmp_path / "encoder.onnx"))


def test_whitened_training_features_have_unit_variance_along_every_component() -> None:
    random = np.random.default_rng(0)
    features = (random.standard_normal((200, 6)) * [5, 3, 1, 0.5, 0.2, 0]).astype(np.float32)
    whitening = Whitening(features, 128)
    rotated = (features - features.mean(0)) @ whitening._rotation
    np.testing.assert_allclose(np.cov(rotated.T), np.eye(5), atol=1e-3)  # the sixth has no variance
    np.testing.assert_allclose(np.linalg.norm(whitening(features), axis=1), 1, atol=1e-5)


def test_whitening_keeps_no_more_components_than_asked() -> None:
    features = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    assert Whitening(features, 3)(features).shape == (50, 3)
