"""CLIP's ViT-B/32 at 256 px with random weights, in both forms that its readers take.

    python vit_b32.py FOLDER

Run by benchmarks/pipelines.py with clip-retrieval's own Python. Written are ``weights.pt``, a checkpoint of open_clip's for the
whole model, and ``visual.onnx``, its vision tower as rclip reads it (``input`` [N, 3, 256, 256], ``output`` [N, 512]). Both hold
the same weights, those that seed 0 gives.
"""

import sys
from pathlib import Path

import onnxruntime
import open_clip
import torch

MODEL = "ViT-B-32-256"


class Tower(torch.nn.Module):
    """What encode_image does, as a module that can be exported."""

    def __init__(self, model):
        super().__init__()
        self.visual = model.visual

    def forward(self, images):
        return self.visual(images)


def main(folder):
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL, pretrained=None).eval()
    torch.save(model.state_dict(), folder / "weights.pt")
    images = torch.randn(3, 3, 256, 256)
    torch.onnx.export(
        Tower(model),
        (images,),
        folder / "visual.onnx",
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    with torch.inference_mode():
        expected = model.encode_image(images)
    session = onnxruntime.InferenceSession(folder / "visual.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": images.numpy()})
    difference = (torch.from_numpy(found) - expected).abs().max().item()
    print(f"ONNX and torch differ by at most {difference:.1e}")
    if not difference < 1e-4:
        raise SystemExit("the ONNX file must give what the checkpoint gives")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
