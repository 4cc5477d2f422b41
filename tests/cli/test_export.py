"""``hdml export``: an untrained backbone to search with at once, a run again, and what is refused."""

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hdml.run import write_record
from indexing.encoder import read_metadata
from tests.cli.conftest import Command
from tests.conftest import HUES, UNSEEN_HUES, Trained

UNTRAINED = ("export", "--backbone", "resnet18", "--weights", "none", "--image-size", 32)


def test_untrained_backbone_is_a_run_that_index_and_search_take(hdml: Command, photos: Path, tmp_path: Path) -> None:
    done = hdml(*UNTRAINED, "--json")
    assert (done.code, len(done.stdout.splitlines())) == (0, 1)
    answer = done.json
    run = tmp_path / "workspace" / "runs" / answer["run"]
    assert answer.keys() == {"run", "encoder", "parity"}
    assert answer["run"].startswith("resnet18-untrained-")
    assert answer["encoder"] == str(run / "encoder.onnx")
    assert answer["parity"]["photos"] == 64
    assert answer["parity"]["max_difference"] <= 1e-4
    assert f"Wrote {run / 'encoder.onnx'}" in done.stderr
    assert "Checked against torch on 64 photo files" in done.stderr
    metadata = read_metadata(run / "encoder.onnx")
    assert (metadata.training_data, metadata.backbone, metadata.dimension) == ("none", "resnet18", 512)
    assert sorted(path.name for path in run.iterdir()) == ["encoder.onnx", "regions.onnx", "run.json"]

    assert hdml("index", photos, "--json").json["added"] == 20
    found = hdml("search", photos / "red-right" / "0.jpg", "--json").json
    assert (found["model"], found["results"][0]["path"]) == (metadata.fingerprint, "red-right/0.jpg")
    assert hdml("export").sentence.endswith(f"is an untrained backbone, exported already; its encoder is {run / 'encoder.onnx'}.")


def test_trained_run_is_exported_again_and_stays_the_same_model(hdml: Command, trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "workspace" / "runs" / "mine"
    shutil.copytree(trained.workspace / "runs" / "mine", run)
    before = read_metadata(run / "encoder.onnx")
    (run / "synthesizer.onnx").write_bytes(b"")
    answer = hdml("export", "mine", "--json").json
    assert (answer["run"], answer["encoder"]) == ("mine", str(run / "encoder.onnx"))
    assert read_metadata(run / "encoder.onnx") == before
    assert before.training_data == f"discs: {len(HUES) - len(UNSEEN_HUES) - 2} classes"
    assert (run / "synthesizer.onnx").stat().st_size > 0


def test_run_of_a_comparison_is_exported_by_its_folder(hdml: Command, trained: Trained, tmp_path: Path) -> None:
    """Comparisons train dozens of models and export none."""
    run = tmp_path / "comparisons" / "photos" / "runs" / "npair+hdml-seed0"
    exported = trained.workspace / "runs" / "mine"
    shutil.copytree(exported, run, ignore=shutil.ignore_patterns("*.onnx"))
    hdml("export", run)
    assert read_metadata(run / "encoder.onnx") == read_metadata(exported / "encoder.onnx")


def test_run_that_is_none_or_not_finished_is_a_sentence(hdml: Command, tmp_path: Path) -> None:
    assert '"hdml train PHOTOS"' in hdml("export").sentence
    assert "absent is neither" in hdml("export", "absent").sentence
    write_record(tmp_path / "workspace" / "runs" / "begun", {"status": "training", "started": "2026-01-01T00:00:00+00:00"})
    assert "begun is neither" in hdml("export", "begun").sentence


def test_file_that_is_in_no_run_is_a_sentence(hdml: Command, tiny_encoder: Path) -> None:
    assert f"{tiny_encoder.parent} has none" in hdml("export", tiny_encoder).sentence


def test_run_and_backbone_together_are_refused(hdml: Command) -> None:
    assert "a run or a --backbone, not both; got mine and resnet18" in hdml("export", "mine", "--backbone", "resnet18").sentence


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--backbone", "resnet999"], "no 'resnet999'"), (["--weights", "absent.pth"], "there is no file absent.pth")],
)
def test_backbone_that_cannot_be_built_makes_no_run(hdml: Command, tmp_path: Path, options: list[str], said: str) -> None:
    assert said in hdml(*UNTRAINED, *options).sentence
    assert not (tmp_path / "workspace").exists()


def test_offline_machine_is_told_which_file_to_fetch_and_where_to_put_it(
    hdml: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    sentence = hdml("export", "--backbone", "resnet18").sentence
    assert "resnet18-f37072fd.pth cannot be reached from here; fetch that file elsewhere" in sentence
    assert f"put it at {tmp_path / 'torch' / 'hub' / 'checkpoints' / 'resnet18-f37072fd.pth'}" in sentence
    assert not (tmp_path / "workspace").exists()


def copy_run(trained: Trained, tmp_path: Path) -> Path:
    run = tmp_path / "workspace" / "runs" / "mine"
    shutil.copytree(trained.workspace / "runs" / "mine", run)
    return run


def test_int8_encoder_is_one_of_its_own_that_index_and_search_take(hdml: Command, trained: Trained, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path)
    done = hdml("export", "mine", "--int8", "--json")
    assert done.json.keys() == {"run", "encoder", "int8"}
    card = done.json["int8"]
    assert done.json["encoder"] == str(run / "encoder.int8.onnx")
    assert card["checked_on"] == "validation"
    assert card["top_10_agreement"] >= 0.95
    assert f"the ten nearest agree to {card['top_10_agreement']:.1%}, R@1 " in done.stderr
    float32, int8 = read_metadata(run / "encoder.onnx"), read_metadata(run / "encoder.int8.onnx")
    assert float32.fingerprint != int8.fingerprint
    assert int8.quantization is not None
    assert int8.quantization["of"] == float32.fingerprint

    assert hdml("index", trained.photos, "--encoder", "mine/encoder.int8.onnx", "--json").json["added"] == len(HUES) * 6
    found = hdml("search", trained.photos / HUES[3] / "0.jpg", "--json").json
    assert (found["model"], found["results"][0]["path"]) == (int8.fingerprint, f"{HUES[3]}/0.jpg")
    mixed = hdml("index", trained.photos, "--encoder", "mine").sentence
    assert f"was built with encoder {int8.fingerprint} " in mixed
    assert hdml("eval", "--encoder", "mine/encoder.int8.onnx", "--json").json["queries"] == len(UNSEEN_HUES) * 6


def test_untrained_encoder_is_calibrated_on_a_gallery_or_refused(hdml: Command, tiny_run: Path, shapes: Path) -> None:
    assert hdml("export", "tiny", "--int8").sentence.endswith("hdml export tiny --int8 --gallery FOLDER")
    sentence = hdml(*UNTRAINED, "--int8").sentence
    assert sentence == "An untrained backbone has no photos that could calibrate int8; say which: --int8 --gallery FOLDER"
    small = shapes / "seagreen-ellipse"
    assert f"takes 60, but {small} has 6" in hdml(*UNTRAINED, "--int8", "--gallery", small).sentence
    assert [path.name for path in tiny_run.parent.iterdir()] == ["tiny"]
    answer = hdml("export", "tiny", "--int8", "--gallery", shapes, "--json").json
    assert answer["encoder"] == str(tiny_run / "encoder.int8.onnx")
    assert (answer["int8"]["calibration_photos"], answer["int8"]["photos"]) == (36, 36)
    assert read_metadata(tiny_run / "encoder.int8.onnx").quantization is not None


def test_gallery_that_is_not_asked_for_is_refused(hdml: Command, trained: Trained, shapes: Path, tmp_path: Path) -> None:
    copy_run(trained, tmp_path)
    assert f"--gallery {shapes} is for --int8" in hdml("export", "mine", "--gallery", shapes).sentence
    told = hdml("export", "mine", "--int8", "--gallery", shapes).sentence
    assert told == "mine is calibrated on the photos that it learned from; leave out --gallery."
