"""The public data sets, each from a small copy in its real layout."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pytorch_metric_learning.datasets import CUB, StanfordOnlineProducts
from scipy.io import savemat

from hdml.data import LabelledPhotos
from hdml.public_sets import PUBLISHED, Counts, read_public_set
from indexing.errors import HdmlError
from tests.hdml import public_copies as copies

SMALL: dict[str, Counts] = {
    "cub200": {"train": (6, 3), "test": (4, 2)},
    "cars196": {"train": (6, 3), "test": (4, 2)},
    "sop": {"train": (4, 2), "test": (4, 2)},
    "inshop": {"train": (6, 3), "query": (2, 2), "gallery": (4, 2)},
}
WRITERS: list[tuple[str, Callable[[Path], Path]]] = [
    ("cub200", copies.write_cub200),
    ("cars196", copies.write_cars196_one_list),
    ("cars196", copies.write_cars196_two_lists),
    ("sop", copies.write_sop),
    ("inshop", copies.write_inshop),
]


def read(name: str, root: Path) -> LabelledPhotos:
    return read_public_set(name, root, expected=SMALL[name])


def classes_of(photos: LabelledPhotos, part: str) -> set[str]:
    return {photos.classes[label] for label, its_part in zip(photos.labels, photos.parts, strict=True) if its_part == part}


def test_published_counts_are_those_of_the_protocol() -> None:
    assert PUBLISHED == {
        "cub200": {"train": (5864, 100), "test": (5924, 100)},
        "cars196": {"train": (8054, 98), "test": (8131, 98)},
        "sop": {"train": (59551, 11318), "test": (60502, 11316)},
        "inshop": {"train": (25882, 3997), "query": (14218, 3985), "gallery": (12612, 3985)},
    }


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_every_photo_is_found_with_its_part_from_the_folder_or_the_one_around_it(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    home = write(tmp_path)
    for root in (home, tmp_path):
        photos = read(name, root)
        assert Counter(photos.parts) == {part: count for part, (count, _) in SMALL[name].items()}
        assert {part: len(classes_of(photos, part)) for part in SMALL[name]} == {
            part: classes for part, (_, classes) in SMALL[name].items()
        }
        assert all(file.is_file() for file in photos.files)
        assert set(photos.files) == {file for file in home.rglob("*") if file.suffix.lower() == ".jpg"}


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_training_classes_are_never_tested_on(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    write(tmp_path)
    photos = read(name, tmp_path)
    tested = set().union(*(classes_of(photos, part) for part in SMALL[name] if part != "train"))
    assert tested
    assert not classes_of(photos, "train") & tested


def test_cub200_is_split_by_class_number_and_not_by_its_classification_split(tmp_path: Path) -> None:
    copies.write_cub200(tmp_path)
    photos = read("cub200", tmp_path)
    assert classes_of(photos, "train") == {copies.CUB_CLASSES[number] for number in (1, 2, 100)}
    assert classes_of(photos, "test") == {copies.CUB_CLASSES[number] for number in (101, 200)}
    assert photos.boxes == ()


@pytest.mark.parametrize("write", [copies.write_cars196_one_list, copies.write_cars196_two_lists])
def test_cars196_is_one_set_split_by_class_number_in_either_layout(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    write(tmp_path)
    photos = read("cars196", tmp_path)
    assert photos.classes == tuple(f"{number:03d} Make {number} Sedan 2012" for number in copies.CAR_CLASSES)
    assert classes_of(photos, "train") == set(photos.classes[:3])


def test_cars196_without_the_names_of_its_classes_numbers_them(tmp_path: Path) -> None:
    copies.write_cars196_two_lists(tmp_path)
    (tmp_path / "devkit" / "cars_meta.mat").unlink()
    assert read("cars196", tmp_path).classes == ("001", "002", "098", "099", "196")


def test_inshop_has_its_queries_and_its_gallery_of_the_same_items(tmp_path: Path) -> None:
    copies.write_inshop(tmp_path)
    photos = read("inshop", tmp_path)
    assert classes_of(photos, "query") == classes_of(photos, "gallery") == {"id_00000003", "id_00000005"}
    assert classes_of(photos, "train") == {"id_00000001", "id_00000002", "id_00000004"}
    asked = {path.as_posix() for path, part in zip(photos.paths, photos.parts, strict=True) if part == "query"}
    assert asked == {f"Img/img/WOMEN/Dresses/id_{item:08d}/01_1_front.jpg" for item in (3, 5)}


def test_inshop_may_be_unpacked_without_its_folder_img(tmp_path: Path) -> None:
    home = copies.write_inshop(tmp_path, below="")
    assert all(file.is_relative_to(home / "img") for file in read("inshop", tmp_path).files)


@pytest.mark.parametrize(
    ("name", "write", "theirs"), [("cub200", copies.write_cub200, CUB), ("sop", copies.write_sop, StanfordOnlineProducts)]
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_parts_are_those_of_pytorch_metric_learning(
    tmp_path: Path, name: str, write: Callable[[Path], Path], theirs: type, part: str
) -> None:
    write(tmp_path)
    photos, reference = read(name, tmp_path), theirs(root=str(tmp_path), split=part)
    ours = {file: label for file, label, its in zip(photos.files, photos.labels, photos.parts, strict=True) if its == part}
    assert set(ours) == set(map(Path, reference.paths))
    pairs = {(ours[Path(path)], label) for path, label in zip(reference.paths, reference.labels, strict=True)}
    assert len(pairs) == len({ours_ for ours_, _ in pairs}) == len({label for _, label in pairs}) > 1


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_wrong_counts_say_which(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    """Without the tests' own counts, a small copy is an archive that was not unpacked whole."""
    home = write(tmp_path)
    with pytest.raises(HdmlError) as caught:
        read_public_set(name, tmp_path)
    for part, (photos, classes) in PUBLISHED[name].items():
        found, of = SMALL[name][part]
        assert f"{photos:,} {part} photos of {classes:,} classes, but has {found:,} of {of:,}" in str(caught.value)
    assert str(home) in str(caught.value)


def test_counts_that_are_right_are_not_blamed(tmp_path: Path) -> None:
    copies.write_sop(tmp_path)
    with pytest.raises(HdmlError) as caught:
        read_public_set("sop", tmp_path, expected={"train": (4, 2), "test": (4, 3)})
    assert "4 test photos of 3 classes, but has 4 of 2" in str(caught.value)
    assert "train photos" not in str(caught.value)


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_photos_that_are_missing_are_counted_and_the_first_is_named(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    write(tmp_path)
    files = read(name, tmp_path).files
    files[1].unlink()
    total = len(files)
    with pytest.raises(
        HdmlError, match=rf"{name} must have its {total} photos in .*, but 1 are missing, the first .*{files[1].name}"
    ):
        read(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cub200", "images.txt"),
        ("cars196", "cars_annos.mat or devkit/cars_train_annos.mat"),
        ("sop", "Ebay_train.txt"),
        ("inshop", "Eval/list_eval_partition.txt"),
    ],
)
def test_folder_of_something_else_is_told_what_it_lacks(tmp_path: Path, name: str, wanted: str) -> None:
    with pytest.raises(HdmlError, match=f"{name} needs {wanted}, but {tmp_path} has none; give .* with --root"):
        read(name, tmp_path)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_cub200_lists_that_do_not_agree_are_told(tmp_path: Path) -> None:
    home = copies.write_cub200(tmp_path)
    edit(home / "image_class_labels.txt", "3 2\n", "")
    with pytest.raises(
        HdmlError, match=r"image_class_labels\.txt must have a class for every image, but has none for 3 \(002\.Lay"
    ):
        read("cub200", tmp_path)
    edit(home / "image_class_labels.txt", "4 2\n", "3 2\n4 two\n")
    with pytest.raises(HdmlError, match=r"image_class_labels\.txt must give each class as a number, but gives two"):
        read("cub200", tmp_path)
    edit(home / "images.txt", "2 001", "2 a photo 001")
    edit(home / "image_class_labels.txt", "two", "2")
    with pytest.raises(HdmlError, match=r"line 2 of .*images\.txt must have 2 columns, but has 4"):
        read("cub200", tmp_path)
    (home / "image_class_labels.txt").unlink()
    with pytest.raises(HdmlError, match=r"must hold image_class_labels\.txt, but there is no such file"):
        read("cub200", tmp_path)


def test_cars196_needs_the_labels_of_its_test_photos(tmp_path: Path) -> None:
    copies.write_cars196_two_lists(tmp_path)
    file = tmp_path / "devkit" / "cars_test_annos_withlabels.mat"
    savemat(file, {"annotations": copies.structs([{"bbox_x1": 1, "fname": "00001.jpg"}, {"bbox_x1": 1, "fname": "00002.jpg"}])})
    with pytest.raises(HdmlError, match=r"must have annotations with classes, but has no classes; .*withlabels\.mat"):
        read("cars196", tmp_path)
    file.write_bytes(b"not a MATLAB file, though it has the name of one, and is longer than the header of such a file" * 4)
    with pytest.raises(HdmlError, match=r"withlabels\.mat must be a MATLAB file of the data set, but cannot be read"):
        read("cars196", tmp_path)
    file.write_bytes(b"")
    with pytest.raises(HdmlError, match=r"withlabels\.mat must be a MATLAB file of the data set, but cannot be read"):
        read("cars196", tmp_path)
    file.unlink()
    with pytest.raises(HdmlError, match=r"cars196 needs .*withlabels\.mat, but there is no such file"):
        read("cars196", tmp_path)


def test_sop_list_without_its_header_is_told(tmp_path: Path) -> None:
    home = copies.write_sop(tmp_path)
    edit(home / "Ebay_test.txt", "image_id class_id super_class_id path\n", "")
    with pytest.raises(HdmlError, match=r"line 1 of .*Ebay_test\.txt must be: image_id class_id super_class_id path"):
        read("sop", tmp_path)


def test_inshop_list_that_was_cut_or_says_something_else_is_told(tmp_path: Path) -> None:
    file = copies.write_inshop(tmp_path) / "Eval" / "list_eval_partition.txt"
    edit(file, "12\n", "13\n")
    with pytest.raises(HdmlError, match=r"as many rows as its first line says \(13\), but has 12"):
        read("inshop", tmp_path)
    edit(file, "13\n", "12\n")
    edit(file, " query\n", " asked\n")
    with pytest.raises(HdmlError, match="must say train, query or gallery of each photo, but says asked"):
        read("inshop", tmp_path)
