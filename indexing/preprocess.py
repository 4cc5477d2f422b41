"""From a photo to the network's input: the only decode, resize and normalise used at inference.

Training's evaluation, the indexer and a search all come through here, so that a photo has one embedding, not three.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, UnidentifiedImageError  # noqa: F401 - the first of FORMATS, see there

from indexing.errors import HdmlError, UnreadableImage

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_PIXELS = 200_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# Pillow only warns between one and two times its limit; whoever opens an image, that is too large here.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

# What a folder of photos holds. Left out are formats that run another program (EPS, WMF), stubs without a decoder
# (GRIB, HDF5) and scientific or game data. Pillow loads the plugin of a file's extension; only when it then meets a format
# that it does not know, going down this list, does it load every plugin, which takes longer than decoding a photo.
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM"),
    *("WEBP", "TIFF", "AVIF", "JPEG2000", "TGA", "QOI", "ICO", "PSD", "PCX", "SGI"),
)

# Of files of these formats, as Pillow has them once it has loaded the plugin of every format, which takes as long as a search.
EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".webp", ".tif", ".tiff", ".avif", ".avifs"),
        *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".tga", ".icb", ".vda", ".vst", ".qoi", ".ico"),
        *(".psd", ".pcx", ".sgi", ".rgb", ".rgba", ".bw"),
    }
)

# What phones write: an ISO base media file of one of these brands. Pillow reads it with pillow-heif, an extra of this package.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# What Pillow's decoders raise on damaged files; OSError includes UnidentifiedImageError.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, ZeroDivisionError),
    *(struct.error, zlib.error, MemoryError, RuntimeError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# Annotations give halves of pixels, which rounding may push over the edge.
_BOX_TOLERANCE = 1

ImageSource = Path | str | bytes | BinaryIO


class Box(NamedTuple):
    """Part of a photo: its left upper corner and its size, in pixels of the upright photo at its full size."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return " ".join(map(str, self))


@dataclass(frozen=True)
class Window:
    """Part of a photo: left, top, right and bottom as shares of the upright photo's width and height."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def asked(cls, words: str) -> "Window":
        """From words such as ``0,0.25,0.5,1``; raises HdmlError when they are no part of a photo."""
        try:
            left, top, right, bottom = map(float, words.split(","))
        except ValueError:
            left = top = right = bottom = 0.0
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise HdmlError(
                "a crop must be given as left,top,right,bottom in shares of the photo's width and height, such as 0,0.25,0.5,1, "
                f"not {words}"
            )
        return cls(left, top, right, bottom)

    def box(self, width: int, height: int) -> Box:
        """The same part in whole pixels, one at least."""
        left, top = min(round(self.left * width), width - 1), min(round(self.top * height), height - 1)
        right, bottom = max(round(self.right * width), left + 1), max(round(self.bottom * height), top + 1)
        return Box(left, top, right - left, bottom - top)


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo in RGB, upright; ``width`` and ``height`` are the original's in pixels, even where a JPEG was decoded smaller."""

    image: Image.Image
    width: int
    height: int


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its input; travels inside the encoder's file.

    Attributes:
        resize: shorter side in pixels after resizing, aspect ratio kept; at least ``crop``.
        crop: side in pixels of the square centre crop, the network's input side.
        mean, std: of the red, green and blue channels, in units of 0..1.
        interpolation: ``"bilinear"`` or ``"bicubic"``, both antialiased.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"the crop must be between 1 and the resized side ({self.resize} px), not {self.crop} px")
        if self.interpolation not in _FILTERS:
            raise ValueError(f"interpolation must be one of {', '.join(_FILTERS)}, not {self.interpolation!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std must have three values, std positive, not {self.mean} and {self.std}")


def evaluation_preprocessing(image_size: int) -> Preprocessing:
    """Shorter side to the network's input, centre crop, ImageNet statistics: what evaluation and search both use."""
    return Preprocessing(resize=image_size, crop=image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def load_array(source: ImageSource, preprocessing: Preprocessing, *, box: Box | Window | None = None) -> NDArray[np.float32]:
    """Read a photo, or a part of it, as the network's input, [3, crop, crop]; raises UnreadableImage."""
    return to_array(open_rgb(source, shorter_side=preprocessing.resize, box=box), preprocessing)


def to_array(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Resize the shorter side, crop the centre and normalise: RGB image → float32 [3, crop, crop].

    Only the cropped pixels are resampled, from the box of the original that they cover: a long panorama costs no more
    than a square photo.
    """
    side = min(image.size) * preprocessing.crop / preprocessing.resize
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = image.resize(
        (preprocessing.crop, preprocessing.crop),
        _FILTERS[preprocessing.interpolation],
        box=(left, top, left + side, top + side),
    )
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    array = np.empty((3, preprocessing.crop, preprocessing.crop), np.float32)
    # (pixel / 255 - mean) / std as one multiplication and one addition.
    np.multiply(np.asarray(square).transpose(2, 0, 1), (1 / (255 * std))[:, None, None], out=array)
    array -= (mean / std)[:, None, None]
    return array


def open_rgb(source: ImageSource, *, shorter_side: int | None = None, box: Box | Window | None = None) -> Image.Image:
    """Decode a photo, upright and in RGB.

    EXIF orientation is applied; 16-bit, CMYK and palette images become 8-bit RGB; transparency is composited on white;
    of an animation the first frame is taken.

    Args:
        source: a path, the file's bytes, or an open binary file.
        shorter_side: pixels of the shorter side that the caller will resize to; lets a large JPEG be decoded at a reduced
            scale that still leaves at least twice as many.
        box: the part of the photo to return; where it is given in pixels, the photo is decoded at its full size.

    Raises:
        UnreadableImage: missing, empty, not an image, damaged, above MAX_PIXELS, or without all of the box; the message is the
            reason.
    """
    return decode_photo(source, shorter_side=shorter_side, box=box).image


def decode_photo(source: ImageSource, *, shorter_side: int | None = None, box: Box | Window | None = None) -> DecodedPhoto:
    """As open_rgb, for callers that want the photo's original size as well."""
    try:
        with _open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            width, height = image.size
            _refuse_too_large(width, height)
            if shorter_side is not None and not isinstance(box, Box):
                # Either side may become the photo's width when it is turned upright.
                share = 1.0 if box is None else max(min(box.right - box.left, box.bottom - box.top), 1 / MAX_PIXELS)
                least = int(2 * shorter_side / share)
                image.draft(None, (least, least))  # does nothing unless the file is a JPEG
            image.load()
            orientation = _orientation(image)
            upright = _upright(_as_rgb(image), orientation)
    except DECODE_ERRORS as error:
        raise UnreadableImage(reason_of(error)) from error
    if box is not None:
        upright = _part(upright, box.box(*upright.size) if isinstance(box, Window) else box)
    return DecodedPhoto(upright, *((height, width) if orientation in _SIDEWAYS else (width, height)))


def _open(source: Path | str | BinaryIO) -> Image.Image:
    try:
        return Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        if not _is_heic(source):
            raise
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise UnreadableImage('it is a HEIC photo; "pip install hdml[heic]" lets it be read') from error
    register_heif_opener()
    return Image.open(source, formats=("HEIF",))


def _is_heic(source: Path | str | BinaryIO) -> bool:
    if isinstance(source, Path | str):
        with Path(source).open("rb") as file:
            return _is_heic(file)
    source.seek(0)
    head = source.read(12)
    source.seek(0)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def _part(image: Image.Image, box: Box) -> Image.Image:
    right, bottom = box.x + box.width, box.y + box.height
    begins_inside = box.x < image.width and box.y < image.height
    if not begins_inside or right > image.width + _BOX_TOLERANCE or bottom > image.height + _BOX_TOLERANCE:
        raise UnreadableImage(f"its box {box} (x y width height) reaches beyond its {image.width} × {image.height} pixels")
    return image.crop((box.x, box.y, min(right, image.width), min(bottom, image.height)))


def _refuse_too_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"the image has {width} × {height} pixels, more than the {MAX_PIXELS // 10**6} megapixels allowed")


def reason_of(error: BaseException) -> str:
    """Why a photo cannot be read: what Pillow or the system raised, in words that need no knowledge of either."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a folder, not a photo"
        case UnidentifiedImageError():
            return "the file is empty or not in an image format that can be read"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return f"the image has more than the {MAX_PIXELS // 10**6} megapixels allowed"
        case OSError(strerror=str() as text):
            return f"the file cannot be read: {text}"
        case MemoryError():
            return "there is not enough memory to decode the image"
    return f"the image is damaged: {error or type(error).__name__}"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of a loaded image, 1 (upright) when it has none or its EXIF block is damaged: the pixels are whole."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except DECODE_ERRORS:
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _from_deep_grey(image).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grey to 8 bits; Pillow's own conversion clips at 255.

    White is 65535 for integers that fit 16 bits and 1, 255 or 65535 for floats, whichever is the least that holds
    the brightest pixel; beyond these the brightest pixel is white.
    """
    grey = np.nan_to_num(np.asarray(image, np.float32), posinf=0.0, neginf=0.0)
    peak = float(grey.max())
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    white = next((white for white in whites if peak <= white), peak)
    return Image.fromarray(np.clip(grey * (255 / white) + 0.5, 0, 255).astype(np.uint8))
