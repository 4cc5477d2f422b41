"""Probe tuples: what is logged of them against explicit sums, λ against the log, and that looking changes nothing."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hdml.augmentation import TrainingPhotos
from hdml.config import TrainConfig
from hdml.data import LabelledPhotos, read_labelled_folder
from hdml.embed import embed_photos
from hdml.model import EncoderNetwork, build_backbone
from hdml.probes import TUPLES, Probes, choose_tuples
from hdml.run import CHECKPOINT, MODEL, PROBES, lens_history, read_log
from hdml.synthesis import pull_negatives
from hdml.train import TrainProgress, train
from hdml.trainee import Trainee, make_loss
from indexing.preprocess import evaluation_preprocessing

CPU = torch.device("cpu")
BACKBONE = "shufflenet_v2_x0_5"  # a thirtieth of a ResNet-18's weights, which are what takes the time here


@pytest.fixture
def photos(shapes: Path) -> LabelledPhotos:
    return read_labelled_folder(shapes)


def config_of(**settings: Any) -> TrainConfig:
    defaults: dict[str, Any] = {
        "backbone": BACKBONE,
        "weights": "none",
        "image_size": 32,
        "method": "hdml",
        "loss": "npair",
        "test_classes": "none",
        "steps": 5,
        "classes_per_batch": 4,
        "dimension": 16,
        "evaluations": 1,
    }
    return TrainConfig(**{**defaults, **settings})


def carry_out(photos: LabelledPhotos, run: Path, *, stop_after: int | None = None, **settings: Any) -> None:
    config = config_of(**settings)
    decoded = TrainingPhotos(photos.root, config.image_size)
    decoded.read(photos.photos, keep=photos.photos, on_read=lambda: None)
    run.mkdir(exist_ok=True)
    torch.manual_seed(0)

    def report(progress: TrainProgress) -> None:
        if progress.step == stop_after:
            raise KeyboardInterrupt

    train(
        config,
        build_backbone(config.backbone, image_size=config.image_size),
        decoded,
        train_set=photos,
        validation_set=None,
        run=run,
        device=CPU,
        report=report,
    )


def test_tuples_are_an_anchor_a_positive_and_a_negative_of_distinct_classes(photos: LabelledPhotos) -> None:
    chosen = choose_tuples(photos, seed=3)
    assert len({photos.labels[anchor] for anchor, _, _ in chosen}) == len(chosen) == TUPLES
    for anchor, positive, negative in chosen:
        assert anchor != positive
        assert photos.labels[anchor] == photos.labels[positive] != photos.labels[negative]
    assert choose_tuples(photos, seed=3) == chosen != choose_tuples(photos, seed=4)
    one_class = photos.select(np.flatnonzero(photos.labels == 0).tolist())
    assert choose_tuples(one_class, seed=3) == []


@pytest.mark.parametrize("loss", ["npair", "contrastive"])
def test_what_is_logged_is_what_the_networks_give(photos: LabelledPhotos, tmp_path: Path, loss: str) -> None:
    config = config_of(loss=loss)
    torch.manual_seed(1)
    backbone = build_backbone(BACKBONE, image_size=32)
    metric = make_loss(config, classes_per_batch=4, classes=len(photos.classes))
    trainee = Trainee(backbone, config, loss=metric, classes=len(photos.classes), window=3, device=CPU)
    assert trainee.hardness is not None
    trainee.hardness.metric_loss_avg.add(0.5)
    trainee.train()
    before = {name: tensor.clone() for name, tensor in trainee.model.state_dict().items()}
    probes = Probes(tmp_path, photos, image_size=32, steps=5, steps_done=0, seed=0)
    probes.look(trainee, 0)
    probes.close()
    (row,) = read_log(tmp_path, PROBES)
    assert all(torch.equal(before[name], tensor) for name, tensor in trainee.model.state_dict().items())
    assert trainee.model.training
    assert trainee.hardness.training
    assert row["share"] == trainee.hardness.pulling_share

    network = EncoderNetwork(trainee.model.backbone, trainee.model.head)
    generator, head = trainee.hardness.generator.eval(), trainee.model.head
    for i, (rows, told) in enumerate(zip(choose_tuples(photos, seed=0), row["tuples"], strict=True)):
        files = [photos.files[each] for each in rows]
        assert [one["hash"] for one in told] == [hashlib.blake2b(f.read_bytes(), digest_size=20).hexdigest() for f in files]
        assert [one["label"] for one in told] == [photos.classes[photos.labels[each]] for each in rows]
        found = embed_photos(network, files, evaluation_preprocessing(32), CPU)
        vectors = torch.from_numpy(found.embeddings if loss == "contrastive" else found.embeddings * found.norms[:, None])
        anchor, positive, negative = vectors
        d_ap, d_an = (positive - anchor).norm().item(), (negative - anchor).norm().item()
        assert (row["d_ap"][i], row["d_an"][i]) == pytest.approx((d_ap, d_an), abs=1e-4)
        pulled = row["share"] * d_an + (1 - row["share"]) * d_ap if d_an > d_ap else d_an
        assert row["pulled"][i] == pytest.approx(pulled, abs=1e-4)
        if loss == "contrastive":
            continue  # its pull follows the sphere, see test_synthesis
        with torch.no_grad():
            features = generator(torch.stack([anchor, positive, pull_negatives(anchor, positive, negative, row["share"])]))
            again = head(features)
            named = F.softmax(trainee.hardness.classifier(features[2]), 0).argmax().item()
        distances = (again[1] - again[0]).norm().item(), (again[2] - again[0]).norm().item()
        assert (row["again_ap"][i], row["reembedded"][i]) == pytest.approx(distances, abs=1e-4)
        assert row["label_kept"][i] == (named == photos.labels[rows[2]])


def test_share_of_every_look_is_that_of_the_log(photos: LabelledPhotos, tmp_path: Path) -> None:
    carry_out(photos, tmp_path / "run")
    logged = {row["step"]: row["pulling_share"] for row in read_log(tmp_path / "run")}
    looks = list(read_log(tmp_path / "run", PROBES))
    assert [look["step"] for look in looks] == [0, 1, 2, 3, 4, 5]
    assert [look["share"] for look in looks[:-1]] == [logged[step] for step in range(5)]
    history = lens_history(tmp_path / "run", steps=5, chosen=5, share=looks[-1]["share"])
    assert [look["step"] for look in history["probes"]["looks"]] == [0, 1, 2, 3, 4, 5]
    assert history["probes"]["tuples"] == looks[0]["tuples"]
    assert history["stages"] == [[step, logged[step]] for step in range(5)] + [[5, looks[-1]["share"]]]


def test_killed_run_goes_on_with_the_same_looks_each_once(photos: LabelledPhotos, tmp_path: Path) -> None:
    carry_out(photos, tmp_path / "whole", evaluations=2, steps=4)
    with pytest.raises(KeyboardInterrupt):
        carry_out(photos, tmp_path / "killed", evaluations=2, steps=4, stop_after=3)
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    with (tmp_path / "killed" / PROBES).open("a") as log:
        log.write('{"step": 4, "sha')
    carry_out(photos, tmp_path / "killed", evaluations=2, steps=4)
    assert list(read_log(tmp_path / "killed", PROBES)) == list(read_log(tmp_path / "whole", PROBES))
    assert (tmp_path / "killed" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


def test_looking_changes_nothing_of_what_is_learned(
    photos: LabelledPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(photos, tmp_path / "watched", steps=3)
    monkeypatch.setattr(Probes, "due", lambda self, steps_done: False)
    carry_out(photos, tmp_path / "alone", steps=3)
    assert (tmp_path / "watched" / MODEL).read_bytes() == (tmp_path / "alone" / MODEL).read_bytes()
    assert list(read_log(tmp_path / "alone", PROBES)) == []


def test_plain_run_has_no_probes(photos: LabelledPhotos, tmp_path: Path) -> None:
    carry_out(photos, tmp_path / "run", method="plain", steps=1)
    assert not (tmp_path / "run" / PROBES).exists()
