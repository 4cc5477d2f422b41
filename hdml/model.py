"""From images to features to embeddings: torchvision backbones, the embedding head, the generator and the classifier."""

from collections.abc import Iterable

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from indexing.errors import HdmlError

GENERATOR_HIDDEN = 512
"""Width of the generator's hidden layer (arXiv:1903.05503, section 4.2)."""

# The modules whose output is the last spatial feature map, in the order in which they are looked for.
_MAP_LAYERS = (
    "layer4",  # ResNet, ResNeXt, Wide ResNet
    "inception5b",  # GoogLeNet
    "Mixed_7c",  # Inception v3
    "conv5",  # ShuffleNet v2
    "trunk_output",  # RegNet
    "permute",  # Swin: its features are channels-last until here
    "blocks",  # MaxViT
    "encoder",  # ViT
    "features",  # AlexNet, VGG, SqueezeNet, DenseNet, MobileNet, EfficientNet, ConvNeXt
    "layers",  # MNASNet
)
_CLASSIFIERS = ("fc", "classifier", "head", "heads")


class Backbone(nn.Module):
    """A torchvision classification network without its last layer: images [B, 3, H, W] → features [B, F]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.dimension = _remove_classifier(network)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return features.flatten(1)

    def features_and_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F] and the last spatial feature map [B, C, h, w] that they were pooled from."""
        captured: list[Tensor] = []
        layer = _map_layer(self.network)
        hook = layer.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
        try:
            features = self(images)
        finally:
            hook.remove()
        return features, _as_map(captured[-1])


class EmbeddingHead(nn.Module):
    """g: BatchNorm(F) → Linear(F → D) (arXiv:1903.05503, section 4.2)."""

    def __init__(self, features: int, dimension: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.linear = nn.Linear(features, dimension)
        # Embeddings start about one long, so that the losses start at chance; torch's own start lets the N-pair loss of an
        # untrained network begin at several times that, and the first gradients undo what the backbone knows.
        nn.init.normal_(self.linear.weight, std=(features * dimension) ** -0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        embeddings: Tensor = self.linear(self.norm(features))
        return embeddings

    def at_each_place(self, feature_map: Tensor) -> Tensor:
        """The head of every place's features, by the running statistics: [B, F, h, w] → [B, D, h, w].

        Where the backbone averages over places, the mean over places is the embedding, since the head is affine.
        """
        norm = self.norm
        normed = F.batch_norm(feature_map, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
        return F.conv2d(normed, self.linear.weight[:, :, None, None], self.linear.bias)


class EmbeddingModel(nn.Module):
    """Images [B, 3, H, W] → features y = f(x) [B, F] and embeddings z = g(y) [B, D], not normalised."""

    def __init__(self, backbone: Backbone, dimension: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = EmbeddingHead(backbone.dimension, dimension)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        return features, self.head(features)


class FeatureGenerator(nn.Sequential):
    """i: embeddings [B, D] → synthetic features [B, F] (arXiv:1903.05503, section 4.2)."""

    def __init__(self, dimension: int, features: int) -> None:
        super().__init__(
            nn.Linear(dimension, GENERATOR_HIDDEN),
            nn.ReLU(),
            nn.BatchNorm1d(GENERATOR_HIDDEN),
            nn.Linear(GENERATOR_HIDDEN, features),
        )


class EncoderNetwork(nn.Module):
    """What evaluation runs and export writes: images → unit embeddings [B, D], lengths [B], feature map [B, C, h, w].

    Without a head, the embeddings are the backbone's own features: the untrained encoder.
    """

    def __init__(self, backbone: Backbone, head: EmbeddingHead | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @property
    def dimension(self) -> int:
        return self.backbone.dimension if self.head is None else self.head.linear.out_features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, feature_map = self.backbone.features_and_map(images)
        embeddings = features if self.head is None else self.head(features)
        norms = embeddings.norm(dim=1)
        return embeddings / norms.clamp_min(torch.finfo(norms.dtype).eps)[:, None], norms, feature_map


@torch.no_grad()
def averages_places(backbone: Backbone, image_size: int) -> bool:
    """Whether features are the mean of the feature map over its places, as noise shows; puts it into evaluation mode."""
    images = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    features, feature_map = backbone.eval().features_and_map(images)
    means = feature_map.mean((2, 3))
    return features.shape == means.shape and torch.allclose(features, means, rtol=1e-4, atol=1e-5 * float(features.abs().max()))


def build_backbone(name: str, *, image_size: int, pretrained_input: bool = False) -> Backbone:
    """A torchvision classification network by its name, with random weights and without its classifier.

    Args:
        name: as in ``torchvision.models.list_models``, e.g. ``resnet18``.
        image_size: side of the square input in pixels; ViT and MaxViT are built for one size alone.
        pretrained_input: GoogLeNet and Inception v3 re-scale their input to what torchvision's weights were trained on.

    Raises:
        HdmlError: no classification network has this name, or it cannot work at this size.
    """
    if name not in classification_models():
        raise HdmlError(
            f"--backbone must name a torchvision classification network, but there is no {name!r}; "
            f"for example {', '.join(('resnet18', 'resnet50', 'googlenet', 'convnext_tiny', 'vit_b_16'))}."
        )
    options: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False, "transform_input": pretrained_input}
    elif name.startswith("vit_"):
        options = {"image_size": image_size}
    elif name.startswith("maxvit"):
        options = {"input_size": (image_size, image_size)}
    try:
        network = torchvision.models.get_model(name, weights=None, **options)
        backbone = Backbone(network)
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HdmlError(
            f"{name} does not work on images of {image_size} × {image_size} pixels ({reason}); choose another --image-size."
        ) from error
    return backbone.train()


def classification_models() -> list[str]:
    """Names of torchvision's float classification networks."""
    return list(torchvision.models.list_models(module=torchvision.models))


def _remove_classifier(network: nn.Module) -> int:
    """Replace the last linear layer by the identity; returns the width of what it was given.

    The dropout in front of it belongs to the classifier too: features must be a function of the photo, since the generator
    is asked to reconstruct them.
    """
    if isinstance(getattr(network, "dropout", None), nn.Dropout):  # GoogLeNet and Inception v3
        network.dropout = nn.Identity()
    attribute = next(name for name in _CLASSIFIERS if hasattr(network, name))
    classifier = getattr(network, attribute)
    if isinstance(classifier, nn.Linear):
        setattr(network, attribute, nn.Identity())
        return classifier.in_features
    parts = list(classifier.named_children())
    for part_name, part in parts:
        if isinstance(part, nn.Dropout):
            setattr(classifier, part_name, nn.Identity())
    last_name, last = [(n, part) for n, part in parts if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    setattr(classifier, last_name, nn.Identity())
    return last.in_features if isinstance(last, nn.Linear) else last.in_channels


def _map_layer(network: nn.Module) -> nn.Module:
    layer: nn.Module = getattr(network, next(name for name in _MAP_LAYERS if hasattr(network, name)))
    return layer[-1] if isinstance(layer, nn.ModuleList) else layer


def _as_map(output: Tensor) -> Tensor:
    """[B, C, h, w] from a convolution's output, or from a transformer's tokens [B, 1 + h·w, C] without the class token."""
    if output.dim() == 4:
        return output
    side = round((output.shape[1] - 1) ** 0.5)
    tokens = output[:, 1:].transpose(1, 2)
    return tokens.reshape(*tokens.shape[:2], side, side)


def batchnorms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Every BatchNorm in a module, of whatever number of dimensions."""
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def freeze_batchnorm(module: nn.Module) -> None:
    """Put every BatchNorm below into evaluation mode: it normalises by its running statistics and leaves them alone.

    Its scale and shift go on learning. Call it again after each ``train()``.
    """
    for norm in batchnorms(module):
        norm.eval()


@torch.no_grad()
def reestimate_batchnorm(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Take the running statistics of every BatchNorm below anew, as the mean over batches of the module's inputs.

    Weights stay, and so does everything in training, where BatchNorm goes by the batch at hand.
    """
    norms = batchnorms(module)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean over all batches
    module.train()
    for batch in batches:
        module(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
