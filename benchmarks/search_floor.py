"""The floor under ``hdml search``: one query with bare onnxruntime, faiss and Pillow, and nothing that could be left out.

    python benchmarks/search_floor.py INDEX PHOTO [K]

INDEX is the folder of an index, as ``hdml index`` writes it below WORKSPACE/indexes. The floor reads the encoder and the faiss
file there and prints one line per result, id and score. To it ids are all that there is: no catalogue, no paths, no labels, no
words for anything that may be wrong. benchmarks/cold_search.py times it beside the product.
"""

import json
import os
import sys
from typing import Any


def search(index_dir: str, photo: str, k: int) -> list[tuple[int, float]]:
    """Ids and scores of the k photos most like a photo, on the CPU, with the product's session options and preprocessing."""
    import faiss as typed
    import numpy as np
    import onnxruntime
    from PIL import Image

    faiss: Any = typed  # its stubs lack what is needed here
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(f"{index_dir}/encoder.onnx", options, providers=["CPUExecutionProvider"])
    want = json.loads(session.get_modelmeta().custom_metadata_map["hdml"])["preprocessing"]

    image = Image.open(photo, formats=["JPEG"])
    image.draft(None, (2 * want["resize"], 2 * want["resize"]))
    side = min(image.size) * want["crop"] / want["resize"]
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    square = image.convert("RGB").resize((want["crop"], want["crop"]), Image.Resampling.BILINEAR, box=box)
    mean, std = np.array(want["mean"], np.float32), np.array(want["std"], np.float32)
    pixels = np.asarray(square).transpose(2, 0, 1) * (1 / (255 * std))[:, None, None] - (mean / std)[:, None, None]

    (embedding,) = session.run(["embedding"], {"images": pixels[None]})
    (file,) = (name for name in os.listdir(index_dir) if name.endswith(".faiss"))  # noqa: PTH208 - pathlib is an import more
    index = faiss.read_index(f"{index_dir}/{file}", faiss.IO_FLAG_MMAP_IFC)
    with open(f"{index_dir}/{file.removesuffix('.faiss')}.json", encoding="utf-8") as manifest:  # noqa: PTH123
        nprobe = json.load(manifest)["settings"]["nprobe"]
    params = faiss.SearchParametersIVF(nprobe=nprobe) if nprobe else None
    faiss.omp_set_num_threads(1)  # as the product searches by one query
    scores, ids = index.search(embedding, k, params=params)
    return list(zip(ids[0].tolist(), scores[0].tolist(), strict=True))


def main() -> None:
    if len(sys.argv) not in (3, 4):
        print(__doc__)
        return
    for item, score in search(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) == 4 else 10):
        print(item, f"{score:.4f}")


if __name__ == "__main__":
    main()
