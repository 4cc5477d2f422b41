"""The lens of a trained run against what hdml computes in torch from the photos themselves, at every λ."""

import numpy as np
import pytest
import torch

from hdml.config import TrainConfig
from hdml.embed import embed_photos
from hdml.fit import load_trained
from hdml.model import EncoderNetwork
from hdml.run import read_log, read_record
from hdml.synthesis import synthesize
from hdml.tuples import Tuples
from indexing.hardness import HardnessLens
from indexing.preprocess import evaluation_preprocessing
from indexing.search import OpenIndex
from indexing.workspace import Workspace
from tests.conftest import Trained

TOLERANCE = 1e-4


def test_rulers_numbers_are_those_of_torch_at_every_share(trained: Trained) -> None:
    place = Workspace(trained.workspace)
    run = place.runs_dir / "mine"
    config = TrainConfig(**read_record(run)["config"])
    model, generator, _ = load_trained(run, config)
    assert generator is not None
    network = EncoderNetwork(model.backbone, model.head).eval()
    generator.eval()
    with OpenIndex(place.find_index(), device="cpu") as opened:
        lens = HardnessLens(opened)
        anchors = [items[0].id for label in list(opened.catalogue.labels())[::4] if (items := opened.catalogue.items(label))]
        looks = [lens.look(anchor) for anchor in anchors]
        for look in looks:
            members = [look.anchor, look.positive, *(negative.photo for negative in look.negatives)]
            files = [trained.photos / photo.path for photo in members]
            embedded = embed_photos(network, files, evaluation_preprocessing(config.image_size), torch.device("cpu"))
            rows = torch.from_numpy(embedded.embeddings * embedded.norms[:, None])
            count = len(look.negatives)
            tuples = Tuples(torch.tensor([0]), torch.tensor([1]), torch.arange(2, 2 + count)[None])
            real = (rows[2:] - rows[0]).norm(dim=1).numpy()
            assert look.positive.distance == pytest.approx((rows[1] - rows[0]).norm().item(), abs=TOLERANCE)
            assert [negative.photo.distance for negative in look.negatives] == pytest.approx(real, abs=TOLERANCE)
            for place_of, share in enumerate(look.shares):
                with torch.inference_mode():
                    made = synthesize(rows, tuples, generator=generator, head=model.head.eval(), share=torch.tensor(share))
                synthetic = made.negatives[0]
                expected = {
                    "pulled": (made.pulled[0] - rows[0]).norm(dim=1),
                    "distances": (synthetic - rows[0]).norm(dim=1),
                    "reembedded": (synthetic - made.anchors[0]).norm(dim=1),
                }
                for name, values in expected.items():
                    found = [getattr(negative, name)[place_of] for negative in look.negatives]
                    np.testing.assert_allclose(found, values.numpy(), atol=TOLERANCE, err_msg=f"{name} at λ = {share}")
                again = (made.positives[0] - made.anchors[0]).norm().item()
                assert look.reembedded_positive == pytest.approx(again, abs=TOLERANCE)
    assert len(looks) == 3


def test_share_at_every_stage_is_that_of_the_log(trained: Trained) -> None:
    run = Workspace(trained.workspace).runs_dir / "mine"
    logged = {row["step"]: row["pulling_share"] for row in read_log(run)}
    record = read_record(run)
    with OpenIndex(Workspace(trained.workspace).find_index(), device="cpu") as opened:
        lens = HardnessLens(opened)
        look, replay = lens.look(opened.catalogue.items()[0].id), lens.replay()
    assert look.training is not None
    assert (look.training.steps, look.training.chosen) == (50, record["chosen_step"])
    stages = {stage.step: stage.share for stage in look.training.stages}
    assert {step: share for step, share in stages.items() if step < 50} == {step: logged[step] for step in stages if step < 50}
    assert set(range(50)) <= set(stages)
    training = lens.synthesizer.training
    assert training is not None
    assert [look.step for look in training.looks] == list(range(51))
    assert {look.step: look.share for look in training.looks if look.step < 50} == logged
    assert replay is not None
    assert all(photo.id is not None for members in replay.tuples for photo in members)
    assert stages[look.training.chosen] == look.shares[look.own] == record["lambda"]
