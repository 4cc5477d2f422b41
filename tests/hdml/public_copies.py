"""Small copies of the public data sets, in the layouts that their archives really unpack to: a photo is 8 × 8 pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

CUB_CLASSES = {1: "001.Black_footed_Albatross", 2: "002.Laysan_Albatross", 100: "100.Brown_Pelican", 101: "101.White_Pelican",
               200: "200.Common_Yellowthroat"}  # fmt: skip
CAR_CLASSES = (1, 2, 98, 99, 196)
CAR_NAMES = [f"Make {number} Sedan 2012" for number in range(1, 197)]


def write_photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path, quality=95)


def write_cub200(root: Path, *, photos: int = 2) -> Path:
    """Five classes of that many photos: three of them for training."""
    home = root / "CUB_200_2011"
    images = [
        (number, f"{name}/{name.split('.')[1]}_{index:04d}_{796000 + index}.jpg")
        for number, name in CUB_CLASSES.items()
        for index in range(photos)
    ]
    for index, (_, path) in enumerate(images):
        write_photo(home / "images" / path, index)
    numbered = list(enumerate(images, start=1))
    (home / "images.txt").write_text("".join(f"{image} {path}\n" for image, (_, path) in numbered))
    (home / "image_class_labels.txt").write_text("".join(f"{image} {number}\n" for image, (number, _) in numbered))
    (home / "bounding_boxes.txt").write_text("".join(f"{image} 1.0 1.0 6.0 6.0\n" for image, _ in numbered))
    # The classification split: half of the photos of every class.
    (home / "train_test_split.txt").write_text("".join(f"{image} {image % 2}\n" for image, _ in numbered))
    return home


def write_cars196_one_list(root: Path, *, photos: int = 2) -> Path:
    """car_ims with cars_annos.mat, in which half of the photos of every class are the classification split's test."""
    rows = []
    for index, number in enumerate(number for number in CAR_CLASSES for _ in range(photos)):
        path = f"car_ims/{index + 1:06d}.jpg"
        write_photo(root / path, index)
        rows.append({"relative_im_path": path, **_box(), "class": number, "test": index % 2})
    savemat(root / "cars_annos.mat", {"annotations": structs(rows), "class_names": _cells(CAR_NAMES)})
    return root


def write_cars196_two_lists(root: Path, *, photos: int = 2) -> Path:
    """cars_train and cars_test with the devkit; both folders number their photos from 1, and both hold every class."""
    for folder, name in (("cars_train", "cars_train_annos.mat"), ("cars_test", "cars_test_annos_withlabels.mat")):
        rows = []
        for index, number in enumerate(number for number in CAR_CLASSES for _ in range(photos // 2)):
            write_photo(root / folder / f"{index + 1:05d}.jpg", index + 100 * len(folder))
            rows.append({**_box(), "class": number, "fname": f"{index + 1:05d}.jpg"})
        (root / "devkit").mkdir(exist_ok=True)
        savemat(root / "devkit" / name, {"annotations": structs(rows)})
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": _cells(CAR_NAMES)})
    return root


def write_sop(root: Path) -> Path:
    """Two training products of two photos each, two test products of one and of three."""
    home = root / "Stanford_Online_Products"
    home.mkdir(parents=True)
    image = 0
    for part, sizes in (("train", {1: 2, 2: 2}), ("test", {11319: 1, 11320: 3})):
        lines = ["image_id class_id super_class_id path"]
        for number, size in sizes.items():
            for index in range(size):
                image += 1
                path = f"bicycle_final/1110851{number:05d}_{index}.JPG"
                write_photo(home / path, image)
                lines.append(f"{image} {number} 1 {path}")
        (home / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")
    return home


def write_inshop(root: Path, *, below: str = "Img") -> Path:
    """Three training items of two photos each; of two others, a query and two photos of the gallery each."""
    home = root / "In-shop Clothes Retrieval Benchmark"
    rows = []
    for item, parts in (
        *((item, ["train", "train"]) for item in (1, 2, 4)),
        *((item, ["query", "gallery", "gallery"]) for item in (3, 5)),
    ):
        for index, part in enumerate(parts):
            path = f"img/WOMEN/Dresses/id_{item:08d}/{index + 1:02d}_1_front.jpg"
            write_photo(home / below / path, 10 * item + index)
            rows.append(f"{path}{' ' * (70 - len(path))}id_{item:08d} {part}")
    (home / "Eval").mkdir()
    lines = [str(len(rows)), "image_name item_id evaluation_status", *rows]
    (home / "Eval" / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return home


def _box() -> dict[str, int]:
    return {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 7, "bbox_y2": 7}


def structs(rows: Sequence[dict[str, Any]]) -> Any:
    """A MATLAB array of structures, 1 × n."""
    array = np.zeros((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for index, row in enumerate(rows):
        array[0, index] = tuple(row.values())
    return array


def _cells(texts: Sequence[str]) -> Any:
    cells = np.empty((1, len(texts)), dtype=object)
    cells[0, :] = texts
    return cells
