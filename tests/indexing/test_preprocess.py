"""Decoding anything Pillow opens into upright 8-bit RGB, and the network's input made from it."""

import io
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from indexing.errors import UnreadableImage
from indexing.preprocess import (
    MAX_PIXELS,
    Box,
    Preprocessing,
    decode_photo,
    evaluation_preprocessing,
    load_array,
    open_rgb,
    to_array,
)

# pytest resets the warning filter that the module sets.
pytestmark = pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")

PLAIN = Preprocessing(resize=36, crop=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def scene(width: int = 60, height: int = 40) -> Image.Image:
    """A smooth picture without symmetry: red grows to the right, green downwards, blue is high in the upper left corner."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.maximum(255 - x - y, 0)], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def mean_difference(first: Image.Image, second: Image.Image) -> float:
    assert first.size == second.size
    return float(np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64)).mean())


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG of that size; no pixels follow, so only a decoder that reads the header alone can judge it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = zlib.crc32(b"IHDR" + header)
    data = zlib.compress(b"")
    chunks = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", checksum)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunks
        + struct.pack(">I", len(data))
        + b"IDAT"
        + data
        + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (36, 36), (20, 20), (500, 37)])
def test_to_array_equals_resizing_cropping_and_normalising_in_steps(size: tuple[int, int], interpolation: str) -> None:
    preprocessing = Preprocessing(36, 32, PLAIN.mean, PLAIN.std, interpolation)
    image = scene(*size)
    scale = 36 / min(size)
    whole = image.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling[interpolation.upper()])
    left, top = round((whole.width - 32) / 2), round((whole.height - 32) / 2)
    pixels = np.asarray(whole.crop((left, top, left + 32, top + 32)), np.float64) / 255
    expected = ((pixels - PLAIN.mean) / PLAIN.std).transpose(2, 0, 1)
    found = to_array(image, preprocessing)
    assert found.shape == (3, 32, 32)
    assert found.dtype == np.float32
    # The crop may lie up to half a pixel elsewhere, and one grey level is 1 / (255 * std).
    step = np.abs(np.gradient(expected, axis=(1, 2))).max() / 2 + 1.01 / (255 * min(PLAIN.std))
    np.testing.assert_allclose(found, expected, atol=step)


def test_a_centred_square_of_the_right_size_is_normalised_exactly() -> None:
    image = scene(32, 32)
    expected = ((np.asarray(image, np.float64) / 255 - PLAIN.mean) / PLAIN.std).transpose(2, 0, 1)
    found = to_array(image, Preprocessing(32, 32, PLAIN.mean, PLAIN.std))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_evaluation_keeps_the_whole_shorter_side() -> None:
    preprocessing = evaluation_preprocessing(96)
    assert (preprocessing.resize, preprocessing.crop) == (96, 96)


def test_a_path_its_text_its_bytes_and_an_open_file_are_the_same_photo(tmp_path: Path) -> None:
    path = tmp_path / "scene.jpg"
    path.write_bytes(encoded(scene(), "JPEG"))
    expected = load_array(path, PLAIN)
    np.testing.assert_array_equal(load_array(str(path), PLAIN), expected)
    np.testing.assert_array_equal(load_array(path.read_bytes(), PLAIN), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_array(file, PLAIN), expected)


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),  # the camera was turned: its sensor's picture is the upright one turned left
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_is_turned_upright(kind: str, orientation: int, undo: Image.Transpose | None) -> None:
    stored = scene() if undo is None else scene().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(encoded(stored, kind, exif=exif, **({"quality": 95} if kind != "TIFF" else {})))
    assert mean_difference(photo.image, scene()) < 4
    assert (photo.width, photo.height) == scene().size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
def test_a_damaged_exif_block_leaves_the_photo_as_it_is() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xf0" + b"\xff" * 40, quality=95)
    assert mean_difference(open_rgb(data), scene()) < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    grey = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    found = np.asarray(open_rgb(encoded(Image.fromarray(grey), kind)), np.float64)
    np.testing.assert_allclose(found, np.repeat(grey[..., None] / 257, 3, axis=-1), atol=0.51)


@pytest.mark.parametrize(("brightest", "white"), [(1.0, 1.0), (0.5, 1.0), (200.0, 255.0), (40000.0, 65535.0), (1e6, 1e6)])
def test_float_grey_is_scaled_by_the_white_that_holds_it(brightest: float, white: float) -> None:
    grey = np.linspace(0, brightest, 60 * 40).reshape(40, 60).astype(np.float32)
    grey[0, 0] = np.nan
    found = np.asarray(open_rgb(encoded(Image.fromarray(grey), "TIFF")), np.float64)[..., 0]
    np.testing.assert_allclose(found, np.nan_to_num(grey) * 255 / white, atol=0.51)


def test_cmyk_becomes_rgb() -> None:
    assert mean_difference(open_rgb(encoded(scene().convert("CMYK"), "JPEG", quality=95)), scene()) < 4


def test_transparency_is_composited_on_white() -> None:
    rgba = scene().convert("RGBA")
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 30:] = 255
    alpha[:, 15:30] = 128
    rgba.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    expected = np.asarray(scene(), np.float64) * share + 255 * (1 - share)
    np.testing.assert_allclose(np.asarray(open_rgb(encoded(rgba, "PNG")), np.float64), expected, atol=1)
    grey = Image.fromarray(np.zeros((40, 60), np.uint8)).convert("LA")
    grey.putalpha(Image.fromarray(alpha))
    np.testing.assert_allclose(np.asarray(open_rgb(encoded(grey, "PNG")), np.float64)[..., :1], 255 * (1 - share), atol=1)


def test_a_transparent_palette_colour_becomes_white() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((0, 0), 0)
    found = open_rgb(encoded(palette, "PNG", transparency=0))
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert found.getpixel((1, 1)) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    found = open_rgb(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    red, _, blue = found.getpixel((10, 10))
    assert red > 240
    assert blue < 15


@pytest.mark.parametrize("kind", ["BMP", "PPM", "TGA", "JPEG2000", "ICO", "AVIF"])
def test_less_common_formats_are_read(kind: str) -> None:
    image = scene(48, 48)
    options = {"sizes": [(48, 48)]} if kind == "ICO" else {}
    assert mean_difference(open_rgb(encoded(image, kind, **options)), image) < 4


def heic(image: Image.Image, **options: object) -> bytes:
    target = io.BytesIO()
    pillow_heif.from_pillow(image).save(target, quality=95, **options)
    return target.getvalue()


def test_heic_is_read_upright_from_a_path_and_from_bytes(tmp_path: Path) -> None:
    image = scene(64, 48)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = heic(image, exif=exif.tobytes())
    (tmp_path / "a.heic").write_bytes(content)
    for source in (content, tmp_path / "a.heic", io.BytesIO(content)):
        assert mean_difference(open_rgb(source), image.transpose(Image.Transpose.ROTATE_270)) < 4


def test_heic_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableImage, match=r'it is a HEIC photo; "pip install hdml\[heic\]" lets it be read'):
        open_rgb(heic(scene()))


def test_damaged_heic_is_unreadable() -> None:
    content = heic(scene())
    for length in (12, 40, len(content) // 2, len(content) - 20):
        with pytest.raises(UnreadableImage):
            open_rgb(content[:length])


def test_a_large_jpeg_is_decoded_at_a_scale_that_leaves_twice_what_is_needed() -> None:
    data = encoded(scene(1600, 1200), "JPEG", quality=95)
    photo = decode_photo(data, shorter_side=100)
    assert photo.image.size == (400, 300)  # a scale of 1/8 would leave 150
    assert (photo.width, photo.height) == (1600, 1200)
    assert open_rgb(data).size == (1600, 1200)
    preprocessing = Preprocessing(100, 96, PLAIN.mean, PLAIN.std)
    difference = np.abs(load_array(data, preprocessing) - to_array(open_rgb(data), preprocessing))
    assert difference.mean() < 0.02  # a grey level is 0.017


def test_a_huge_image_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(30_000, 30_000))
    with pytest.raises(UnreadableImage, match=r"more than the 200 megapixels allowed"):
        open_rgb(path)
    path.write_bytes(png_header(20_001, 10_000))
    with pytest.raises(UnreadableImage, match=r"more than the 200 megapixels allowed"):
        open_rgb(path)
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS == 200_000_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_a_truncated_file_is_unreadable(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    assert open_rgb(data).size == (80, 80)
    with pytest.raises(UnreadableImage, match=r"damaged|cannot be read"):
        open_rgb(data[: len(data) // 2], shorter_side=20)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty or not in an image format"),
        (b"just a note", "empty or not in an image format"),
        (None, "there is no such file"),
    ],
)
def test_what_is_no_image_is_said_without_its_path(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "note.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        open_rgb(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_folder_and_a_name_with_a_null_byte_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="it is a folder"):
        open_rgb(tmp_path)
    with pytest.raises(UnreadableImage, match="null byte"):
        open_rgb("a\0b.jpg")


def test_postscript_is_not_run() -> None:
    with pytest.raises(UnreadableImage, match="not in an image format"):
        open_rgb(encoded(scene(), "EPS"))


def array_or_reason(data: bytes) -> NDArray[np.float32] | str:
    try:
        return load_array(data, PLAIN)
    except UnreadableImage as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks about damaged EXIF blocks
def test_damaged_files_raise_nothing_but_unreadable_image() -> None:
    """Seeded damage to small files of every common format: each is read, or refused with a one-line reason."""
    draw = random.Random(5)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = scene(24, 16)
    files = [encoded(image, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    files += [encoded(image, kind) for kind in ("BMP", "GIF", "PPM", "TGA", "JPEG2000", "PCX", "SGI")]
    files += [encoded(image.convert(mode), "PNG") for mode in ("P", "RGBA", "L", "1")]
    files += [encoded(image, "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1500):
        data = bytearray(draw.choice(files))
        for _ in range(draw.choice((1, 2, 5))):
            position = draw.randrange(min(len(data), draw.choice((40, 200, 100_000))))
            if draw.random() < 0.7:
                data[position] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
            else:
                del data[position : position + draw.choice((1, 4, 100))]
        outcome = array_or_reason(bytes(data))
        if isinstance(outcome, str):
            assert outcome
            assert "\n" not in outcome
            outcomes["refused"] += 1
        else:
            assert outcome.shape == (3, 32, 32)
            assert np.isfinite(outcome).all()
            outcomes["read"] += 1
    assert min(outcomes.values()) > 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": 40}, r"between 1 and the resized side \(36 px\), not 40 px"),
        ({"crop": 0}, "not 0 px"),
        ({"interpolation": "nearest"}, "bilinear, bicubic, not 'nearest'"),
        ({"std": (0.2, 0.0, 0.2)}, "std positive"),
    ],
)
def test_preprocessing_refuses_what_cannot_be(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"resize": 36, "crop": 32, "mean": PLAIN.mean, "std": PLAIN.std, **fields})


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_reading_a_photo_loads_the_plugin_of_its_format_alone(tmp_path: Path, extension: str) -> None:
    photo = tmp_path / f"photo.{extension}"
    scene().save(photo)
    program = "import sys; from indexing.preprocess import open_rgb; open_rgb(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", program, str(photo)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60, check=True)
    plugins = {name for name in run.stdout.split() if name.startswith("PIL.") and name.endswith("ImagePlugin")}
    assert plugins == {"PIL.JpegImagePlugin"} | ({"PIL.PngImagePlugin"} if extension == "png" else set())


@pytest.mark.parametrize("orientation", [1, 6])
def test_box_is_in_pixels_of_the_upright_photo_at_its_full_size(orientation: int) -> None:
    """A JPEG large enough to be decoded at a reduced scale when it is wanted whole."""
    large = scene(1600, 1200)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(large, "JPEG", quality=95, exif=exif)
    upright = large if orientation == 1 else large.transpose(Image.Transpose.ROTATE_270)
    photo = decode_photo(stored, shorter_side=64, box=Box(300, 500, 400, 200))
    assert mean_difference(photo.image, upright.crop((300, 500, 700, 700))) < 2
    assert (photo.width, photo.height) == upright.size


@pytest.mark.parametrize("box", [Box(0, 0, 61, 41), Box(59, 39, 2, 2)])
def test_box_may_reach_one_pixel_over_the_edge_and_is_cut_there(box: Box) -> None:
    image = open_rgb(encoded(scene(60, 40), "PNG"), box=box)
    assert image.size == (60 - box.x, 40 - box.y)


@pytest.mark.parametrize("box", [Box(0, 0, 62, 40), Box(0, 0, 60, 42), Box(60, 0, 1, 1), Box(0, 40, 1, 1), Box(200, 200, 10, 10)])
def test_box_beyond_the_photo_is_told_with_both_sizes(box: Box) -> None:
    with pytest.raises(UnreadableImage, match=rf"its box {box} \(x y width height\) reaches beyond its 60 × 40 pixels"):
        open_rgb(encoded(scene(60, 40), "PNG"), box=box)


def test_array_of_a_box_is_that_of_the_part_cut_out_by_itself() -> None:
    part = load_array(encoded(scene().crop((10, 5, 50, 35)), "PNG"), PLAIN)
    np.testing.assert_array_equal(load_array(encoded(scene(), "PNG"), PLAIN, box=Box(10, 5, 40, 30)), part)
