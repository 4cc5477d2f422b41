"""Several processes compute what one does: gathered features, averaged gradients, runs that change hands; gloo on the CPU."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hdml.augmentation import TrainingPhotos
from hdml.checkpoint import load_tensors
from hdml.class_split import split_classes
from hdml.config import TrainConfig
from hdml.data import read_labelled_folder
from hdml.distributed import ALONE, Processes, join, launch
from hdml.model import build_backbone
from hdml.run import CHECKPOINT, LOG, MODEL, PROBES, read_log
from hdml.train import TrainProgress, train
from indexing.errors import HdmlError

CPU = torch.device("cpu")
ROWS = 5  # of which two processes take 2 and 3
CONFIG = TrainConfig(
    backbone="resnet18",
    weights="none",
    image_size=32,
    method="hdml",
    loss="npair",
    test_classes="last:2",
    steps=10,
    classes_per_batch=5,
    dimension=16,
    evaluations=2,
    freeze_bn=True,
)
INTERRUPTED = "interrupted"


class DoublePhotos(TrainingPhotos):
    """Photos for networks of float64."""

    def batch(self, *arguments: Any, **options: Any) -> Tensor:
        return super().batch(*arguments, **options).double()


def train_share(shapes: Path, run: Path, chunk: int | None = None, *, apart: bool = False) -> None:
    """Train in float64, alone or as one of several; apart, every process has a folder of its own below the run's.

    Step 8, whose checkpoint is of step 5, leaves what a kill would leave there in a folder beside the run.
    """
    processes, device = join(CPU)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    photos = read_labelled_folder(shapes)
    decoded = DoublePhotos(shapes, CONFIG.image_size)
    decoded.read(photos.photos, keep=set(photos.photos), on_read=lambda: None)

    def report(progress: TrainProgress) -> None:
        if progress.step == 8:
            shutil.copytree(folder, run / INTERRUPTED)

    folder = run / str(processes.rank) if apart else run
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(CONFIG.seed)
    try:
        train(
            replace(CONFIG, chunk=chunk),
            build_backbone(CONFIG.backbone, image_size=CONFIG.image_size).double(),
            decoded,
            train_set=photos.of_classes(split_classes(photos, CONFIG.test_classes).train),
            validation_set=None,
            run=folder,
            device=device,
            report=report,
            processes=processes,
        )
    finally:
        torch.set_default_dtype(torch.float32)
    processes.leave()


def train_share_apart(shapes: Path, run: Path) -> None:
    train_share(shapes, run, apart=True)


def assert_same_run(run: Path, other: Path, *, within: float) -> None:
    """Models, generators, classifiers, optimisers and windows."""
    for name in (CHECKPOINT, MODEL):
        (tensors, state), (others, other_state) = load_tensors(run / name), load_tensors(other / name)
        torch.testing.assert_close(tensors, others, rtol=0, atol=within)
        assert state["steps_done"] == other_state["steps_done"] == CONFIG.steps


@pytest.fixture(scope="module")
def alone(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    train_share(shapes, run)
    return run


@pytest.fixture(scope="module")
def together(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes with folders of their own, 0 and 1."""
    run = tmp_path_factory.mktemp("runs") / "together"
    launch(2, train_share_apart, shapes, run)
    return run


def test_two_processes_equal_one_after_ten_steps(alone: Path, together: Path) -> None:
    assert_same_run(together / "0", alone, within=1e-8)
    tensors, _ = load_tensors(alone / CHECKPOINT)
    learned = ("model.backbone.network.conv1.weight", "hardness.generator.0.weight", "hardness.classifier.weight")
    assert set(learned) < set(tensors)
    last = list(read_log(alone))[-1]
    assert last["pulling_share"] < 1
    assert last["real_weight"] < 1


def test_first_process_alone_writes(together: Path) -> None:
    assert {file.name for file in (together / "0").iterdir()} == {CHECKPOINT, MODEL, LOG, PROBES}
    assert list((together / "1").iterdir()) == []


def test_run_of_two_processes_goes_on_with_one_or_with_two(alone: Path, together: Path, shapes: Path, tmp_path: Path) -> None:
    with_one, with_two = (Path(shutil.copytree(together / INTERRUPTED, tmp_path / name)) for name in ("with one", "with two"))
    _, state = load_tensors(with_one / CHECKPOINT)
    assert state["steps_done"] == CONFIG.steps // 2
    train_share(shapes, with_one)
    assert_same_run(with_one, alone, within=1e-8)
    launch(2, train_share, shapes, with_two)
    assert_same_run(with_two, together / "0", within=0)


def test_run_of_one_process_goes_on_with_two_in_chunks(alone: Path, shapes: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(alone / INTERRUPTED, tmp_path / "run"))
    launch(2, train_share, shapes, run, 2)
    assert_same_run(run, alone, within=1e-8)


def exchange(folder: Path) -> None:
    """Write what this process got of everything that processes exchange."""
    processes, _ = join(CPU)
    weight = torch.nn.Parameter(torch.tensor(2.0))
    rows = torch.arange(ROWS, dtype=torch.float32)[list(processes.share(ROWS))]
    features = processes.gather((weight * rows)[:, None], ROWS)
    features.square().sum().backward()
    summed = weight.grad.item()
    processes.average_gradients([weight])
    torch.manual_seed(3)
    with processes.own_randomness():
        own = torch.rand(()).item()
    norm = torch.nn.BatchNorm1d(1)
    norm.running_mean.fill_(processes.rank + 5.0)
    processes.copy_buffers(norm)
    found = {
        "features": features.flatten().tolist(),
        "summed": summed,
        "averaged": weight.grad.item(),
        "own": own,
        "common": torch.rand(()).item(),
        "buffer": norm.running_mean.item(),
        "told": str(processes.tell(Path(f"said by {processes.rank}"))),
    }
    (folder / f"{processes.rank}.json").write_text(json.dumps(found))
    processes.leave()


def test_what_processes_exchange(tmp_path: Path) -> None:
    """The loss is Σ (w·row)², whose derivative by w is 2·w·Σ row²."""
    launch(2, exchange, tmp_path)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    squares = [2 * 2.0 * sum(row * row for row in rows) for rows in ((0, 1), (2, 3, 4))]
    assert [one["summed"] for one in found] == pytest.approx([2 * part for part in squares])
    for one in found:
        assert one["features"] == [2.0 * row for row in range(ROWS)]
        assert one["averaged"] == pytest.approx(sum(squares))
        assert (one["buffer"], one["told"]) == (5.0, "said by 0")
    assert len({one["own"] for one in found}) == 2
    assert len({one["common"] for one in found}) == 1


def test_one_process_has_the_whole_batch() -> None:
    own = torch.ones(3, 2)
    assert ALONE.share(3) == range(3)
    assert ALONE.gather(own, 3) is own
    assert join(CPU) == (ALONE, CPU)


def test_batch_smaller_than_the_processes_is_refused() -> None:
    with pytest.raises(HdmlError, match=r"3 photos are shared by 4.*--classes-per-batch"):
        Processes(0, 4).share(3)


def fail(sentence: str) -> None:
    processes, _ = join(CPU)
    if processes.rank == 1:
        raise HdmlError(sentence)
    processes.gather(torch.ones(1), 2)  # waits for the other


def test_failure_of_any_process_ends_all_in_its_own_words() -> None:
    with pytest.raises(HdmlError, match=r"^The photos are gone\.$"):
        launch(2, fail, "The photos are gone.")
