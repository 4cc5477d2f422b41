"""``hdml encoder add``: a network that others exported, which index, eval and compare then take by its name."""

import json
from pathlib import Path

import pytest

from indexing.encoder import read_metadata
from tests.cli.conftest import Command
from tests.conftest import write_stranger


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_stranger(tmp_path / "colours.onnx", outputs=["tokens"])


def test_add_says_what_it_made_and_the_name_is_enough_from_then_on(
    hdml: Command, network: Path, photos: Path, tmp_path: Path
) -> None:
    done = hdml("encoder", "add", network, "--pooling", "mean", "--mean", 0.5, "--std", "0.25,0.25,0.2")
    encoder = tmp_path / "workspace" / "runs" / "colours" / "encoder.onnx"
    about = read_metadata(encoder)
    assert f"Wrote {encoder}: 16 dimensions, fingerprint {about.fingerprint}" in done.stdout
    assert "Vectors: tokens [2, 3, 16], of which the mean of all is taken" in done.stdout
    assert "centre 32 px, mean 0.5,0.5,0.5, std 0.25,0.25,0.2; no file beside it told any of it" in done.stdout
    assert hdml("index", photos, "--encoder", "colours").code == 0
    answer = hdml("search", photos / "red-right" / "0.jpg", "-k", 1, "--json").json
    assert (answer["model"], answer["results"][0]["path"]) == (about.fingerprint, "red-right/0.jpg")
    assert hdml("eval", photos, "--encoder", "colours", "--json").json["queries"] == 20
    assert "colours is a network that was added, exported already" in hdml("export", "colours").sentence


def test_answer_holds_what_is_done_to_photos_and_who_told_it(hdml: Command, network: Path, tmp_path: Path) -> None:
    told = {
        "size": {"shortest_edge": 36},
        "do_center_crop": True,
        "crop_size": 32,
        "image_mean": [0.4] * 3,
        "image_std": [0.2] * 3,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    answer = hdml("encoder", "add", network, "--name", "mine", "--json").json
    assert (answer["name"], answer["dimension"], answer["output"]) == ("mine", 16, "tokens")
    assert (answer["preprocessing"]["resize"], answer["preprocessing"]["crop"]) == (36, 32)
    assert answer["preprocessing"]["mean"] == [0.4, 0.4, 0.4]
    assert answer["preprocessing_from"] == str(tmp_path / "preprocessor_config.json")


def test_an_added_encoder_can_be_changed_over_to(hdml: Command, network: Path, photos: Path, workspace: Path) -> None:
    hdml("index", photos)
    hdml("encoder", "add", network)
    answer = hdml("index", photos, "--migrate", "--encoder", "colours", "--json").json["migration"]
    assert (answer["embedded"], answer["swapped"]) == (20, True)


def test_what_cannot_be_added_leaves_nothing(hdml: Command, network: Path, tmp_path: Path) -> None:
    assert hdml("encoder", "add", network).code == 0
    assert "but " in (taken := hdml("encoder", "add", network).sentence)
    assert taken.endswith("choose another --name.")
    assert "--mean must be three numbers" in hdml("encoder", "add", network, "--name", "b", "--mean", "0.1,0.2").sentence
    assert "holds no slash" in hdml("encoder", "add", network, "--name", "../b").sentence
    assert "must be an ONNX file" in hdml("encoder", "add", tmp_path / "absent.onnx").sentence
    assert [path.name for path in (tmp_path / "workspace" / "runs").iterdir()] == ["colours"]


def test_compare_takes_it_by_its_name(hdml: Command, network: Path, shapes: Path, tmp_path: Path) -> None:
    hdml("encoder", "add", network)
    file = tmp_path / "workspace" / "runs" / "colours" / "encoder.onnx"
    file.write_bytes(b"found, and then not understood")
    for arm in ("frozen colours", "frozen colours whitened"):
        assert f"{file} must be an ONNX file, but" in hdml("compare", shapes, "--arms", f"npair,{arm}").sentence
