"""Backbones of every torchvision family, without their classifiers."""

import pytest
import torch
import torchvision

from hdml.model import Backbone, EmbeddingHead, EncoderNetwork, FeatureGenerator, build_backbone
from indexing.errors import HdmlError


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("resnet18", 512),
        ("googlenet", 1024),
        ("squeezenet1_1", 512),
        ("shufflenet_v2_x0_5", 1024),
        ("mobilenet_v3_small", 1024),
        ("mnasnet0_5", 1280),
        ("regnet_y_400mf", 440),
        ("densenet121", 1024),
    ],
)
def test_features_have_the_width_of_the_classifiers_input(name: str, dimension: int) -> None:
    backbone = build_backbone(name, image_size=64).eval()
    features, feature_map = backbone.features_and_map(torch.randn(2, 3, 64, 64))
    assert backbone.dimension == dimension
    assert features.shape == (2, dimension)
    assert feature_map.shape[0] == 2
    assert feature_map.dim() == 4


def test_features_are_what_torchvision_gives_its_classifier() -> None:
    torch.manual_seed(0)
    whole = torchvision.models.resnet18(weights=None).eval()
    backbone = Backbone(torchvision.models.resnet18(weights=None)).eval()
    backbone.network.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(whole(images), whole.fc(backbone(images)))


def test_features_are_pooled_from_the_feature_map() -> None:
    features, feature_map = build_backbone("resnet18", image_size=64).eval().features_and_map(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(features, feature_map.mean((2, 3)))


@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v3_small", "efficientnet_b0"])
def test_classifiers_dropout_is_gone(name: str) -> None:
    backbone = build_backbone(name, image_size=64)
    assert not any(isinstance(module, torch.nn.Dropout) for module in backbone.modules())


def test_unknown_backbone_is_named() -> None:
    with pytest.raises(HdmlError, match="there is no 'resnet19'"):
        build_backbone("resnet19", image_size=64)


def test_detection_network_is_no_backbone() -> None:
    with pytest.raises(HdmlError, match="classification network"):
        build_backbone("fasterrcnn_resnet50_fpn", image_size=64)


def test_size_that_a_network_cannot_take_is_named() -> None:
    with pytest.raises(HdmlError, match="vit_b_16 does not work on images of 50 × 50 pixels"):
        build_backbone("vit_b_16", image_size=50)


def test_encoder_without_a_head_gives_the_backbones_own_features() -> None:
    backbone = build_backbone("resnet18", image_size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    unit, norms, _ = EncoderNetwork(backbone, None)(images)
    torch.testing.assert_close(unit * norms[:, None], backbone(images))
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2))


def test_encoder_of_a_head_gives_unit_embeddings_and_their_lengths() -> None:
    backbone = build_backbone("resnet18", image_size=64).eval()
    head = EmbeddingHead(512, 16).eval()
    images = torch.randn(2, 3, 64, 64)
    unit, norms, _ = EncoderNetwork(backbone, head)(images)
    torch.testing.assert_close(unit * norms[:, None], head(backbone(images)))


def test_generator_goes_from_embeddings_to_features() -> None:
    assert FeatureGenerator(16, 512)(torch.randn(4, 16)).shape == (4, 512)
