"""HDML in a training loop of your own, with the sampler of pytorch-metric-learning.

    python examples/own_loop.py PHOTOS [--steps N]

PHOTOS has one sub-folder per class; the lines between the two marks are all that HDML adds to an ordinary loop.
"""

import argparse
from pathlib import Path

import torch
import torchvision
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from hdml import HardnessAware, metric_loss


def main() -> None:
    """Train for some steps and say how the losses go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with one sub-folder per class")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--classes-per-batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=64)
    arguments = parser.parse_args()

    size, count = arguments.image_size, arguments.classes_per_batch
    crops = v2.Compose([v2.RandomResizedCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    photos = torchvision.datasets.ImageFolder(arguments.photos, crops)
    pairs = MPerClassSampler(photos.targets, m=2, batch_size=2 * count, length_before_new_iter=2 * count * arguments.steps)

    backbone = torchvision.models.resnet18(weights=None)
    backbone.fc = nn.Identity()
    head = nn.Sequential(nn.BatchNorm1d(512), nn.Linear(512, 128))
    nn.init.normal_(head[1].weight, std=(512 * 128) ** -0.5)  # embeddings start about one long, and the loss at chance

    # HDML begins here.
    loss = metric_loss("npair", classes_per_batch=count)
    hardness_aware = HardnessAware(loss, features=512, dimension=128, classes=len(photos.classes))
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters(), *hardness_aware.parameters()], lr=1e-3)
    for step, (images, labels) in enumerate(DataLoader(photos, batch_size=2 * count, sampler=pairs), start=1):
        features = backbone(images)
        losses = hardness_aware(features, head(features), labels, head=head)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        # HDML ends here.
        if step % 10 == 0 or step == arguments.steps:
            figures = losses.figures
            print(
                f"step {step}: J_m {figures.metric_loss:.3f}  J_syn {figures.synthetic_loss:.3f}  λ {figures.pulling_share:.2f}"
            )


if __name__ == "__main__":
    main()
