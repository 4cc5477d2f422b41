"""Starting weights: local files of either kind, what does not fit, and ImageNet's without a network."""

import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from hdml.weights import WeightsUnavailable, imagenet_file, load_backbone
from indexing.errors import HdmlError


def resnet_state(seed: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return torchvision.models.resnet18(weights=None).state_dict()


def test_safetensors_without_a_classifier_in_half_precision_loads_as_float32(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in resnet_state().items() if not name.startswith("fc.")}
    save_file(state, tmp_path / "weights.safetensors")
    backbone = load_backbone("resnet18", str(tmp_path / "weights.safetensors"), image_size=64)
    found = backbone.network.conv1.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, state["conv1.weight"].float(), rtol=0, atol=0)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_pth_state_dict_loads_as_saved_or_as_training_scripts_wrap_it(tmp_path: Path, wrap) -> None:
    state = resnet_state()
    torch.save(wrap(state), tmp_path / "weights.pth")
    backbone = load_backbone("resnet18", str(tmp_path / "weights.pth"), image_size=64)
    torch.testing.assert_close(backbone.network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"], rtol=0, atol=0)


def test_googlenet_with_auxiliary_heads_loads_with_the_input_it_was_trained_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.googlenet(weights=None, aux_logits=True, transform_input=True, init_weights=False).eval()
    torch.save(whole.state_dict(), tmp_path / "googlenet.pth")
    backbone = load_backbone("googlenet", str(tmp_path / "googlenet.pth"), image_size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(whole.fc(backbone(images)), whole(images))


def test_vit_of_another_image_size_resamples_its_positions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.vit_b_16(weights=None, image_size=64)
    torch.save(whole.state_dict(), tmp_path / "vit.pth")
    backbone = load_backbone("vit_b_16", str(tmp_path / "vit.pth"), image_size=96)
    assert backbone.network.encoder.pos_embedding.shape == (1, 1 + 6 * 6, 768)


def test_state_dict_of_another_network_lists_what_is_missing(tmp_path: Path) -> None:
    torch.save(resnet_state(), tmp_path / "resnet.pth")
    with pytest.raises(HdmlError, match=r"resnet.pth must hold at least 95%.*only 0 match.*features\.0\.0\.weight.* more"):
        load_backbone("mobilenet_v2", str(tmp_path / "resnet.pth"), image_size=64)


def test_almost_whole_state_dict_loads_and_a_tenth_less_does_not(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in resnet_state().items() if not name.startswith("fc.")}
    names = list(state)
    torch.save({name: state[name] for name in names[3:]}, tmp_path / "most.pth")
    load_backbone("resnet18", str(tmp_path / "most.pth"), image_size=64)
    torch.save({name: state[name] for name in names[len(names) // 10 :]}, tmp_path / "less.pth")
    with pytest.raises(HdmlError, match=f"only {len(names) - len(names) // 10} match"):
        load_backbone("resnet18", str(tmp_path / "less.pth"), image_size=64)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04 not tensors", b"PK\x03\x04 broken zip"])
def test_damaged_weights_file_is_one_sentence(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"weights{suffix}").write_bytes(content)
    with pytest.raises(HdmlError, match="cannot be read as one"):
        load_backbone("resnet18", str(tmp_path / f"weights{suffix}"), image_size=64)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("pwned"),))


def test_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Malicious()}, tmp_path / "weights.pth")
    with pytest.raises(HdmlError, match="cannot be read as one"):
        load_backbone("resnet18", "weights.pth", image_size=64)
    assert not (tmp_path / "pwned").exists()


def test_missing_weights_file_is_one_sentence() -> None:
    with pytest.raises(HdmlError, match=r"there is no file nowhere\.pth"):
        load_backbone("resnet18", "nowhere.pth", image_size=64)


def test_imagenet_weights_without_a_network_say_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_arguments: object, **_options: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    file = imagenet_file("resnet18")
    assert file.path.parent == tmp_path / "hub" / "checkpoints"
    with pytest.raises(WeightsUnavailable) as raised:
        load_backbone("resnet18", "imagenet", image_size=64)
    assert file.url in str(raised.value)
    assert str(file.path) in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_imagenet_weights_on_disk_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real loading code, on a file whose name carries its own hash as torchvision's do."""
    import hashlib

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(resnet_state(), checkpoints / "saved.pth")
    name = f"resnet18-{hashlib.sha256((checkpoints / 'saved.pth').read_bytes()).hexdigest()[:8]}.pth"
    (checkpoints / "saved.pth").rename(checkpoints / name)
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    moved = weights.url.rsplit("/", 1)[0] + "/" + name
    monkeypatch.setattr(type(weights), "url", property(lambda _: moved))
    backbone = load_backbone("resnet18", "imagenet", image_size=64)
    torch.testing.assert_close(backbone.network.conv1.weight, resnet_state()["conv1.weight"], rtol=0, atol=0)
