"""Opening: which files are pictures that can be read, and what is wrong with the others.

Pillow opens whatever it knows, by what stands in the file and not by its name: an EPS called x.png
starts Ghostscript. Here only `FORMATS` open, and nothing of a picture is decoded yet:

    with picture_file(Path("cat.jpg"), name="cat.jpg") as image:
        image.size  # from the header

Everything that makes a file unusable is a `SkippedImage` of one line and one reason, by which
whoever reads thousands of files counts the ones that were left out. How an opened picture becomes
pixels is `igpt.pixels.decoding`'s business.
"""

import io
import struct
import threading
import warnings
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import accumulate, chain
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image, ImageFile

from igpt.errors import DataError

FORMATS = (
    "JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "PSD", "QOI", "SGI",
    "SUN",
)  # fmt: skip
"""Those of Pillow's formats that hold one picture, or a first one, and show by their first bytes.

Left out are those that start a program (EPS, WMF), that Pillow only recognizes (BUFR, GRIB, HDF5,
MPEG), that hold measurements (FITS, MCIDAS) or several sizes of a sign (ICO, CUR, ICNS), those for
games' textures, and what is no longer met.
"""

FORMATS_BY_NAME = ("TGA", "PCX", "DIB")
"""Formats that almost any file could begin like, so that their ending is asked for too."""

HEIF_ENDINGS = frozenset([".heic", ".heics", ".heif", ".heifs", ".hif"])

Reason = Literal[
    "unreadable", "not an image", "format not read", "broken", "too large", "too small",
    "levels out of range",
]  # fmt: skip
"""Why an image is left out, in words for an account."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# Pillow warns through Python's global filters, and those cannot be set for one thread alone.
_OPENING = threading.Lock()


class SkippedImage(DataError):
    """An image that cannot be used, which is no reason to do without the others."""

    reason: Reason

    def __init__(self, message: str, reason: Reason = "broken") -> None:
        super().__init__(message)
        self.reason = reason


def readable_endings() -> frozenset[str]:
    """Return how the names of files end that can be read, in lower case: `.jpg` and so on.

    Those of HEIF are among them whether or not it is installed: a photo that the extra is missing
    for is skipped with that reason, not passed over.
    """
    known = Image.registered_extensions()
    read = {*FORMATS, *FORMATS_BY_NAME, "MPO"}
    return frozenset(ending for ending, kind in known.items() if kind in read) | HEIF_ENDINGS


@contextmanager
def picture_file(source: Path | bytes, *, name: str) -> Iterator[ImageFile.ImageFile]:
    """Open an image file as far as its header, its Exif data included.

    Args:
        source: The file, or what is in it.
        name: What errors call it.

    Raises:
        SkippedImage: The file is missing or broken, or of no format that is read.
    """
    with refusals(name):
        if isinstance(source, Path) and source.is_fifo():  # nobody may ever write to it
            raise SkippedImage(f"{name} is a pipe; give a file of an image", "unreadable")
        file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with file:
        with refusals(name), without_warnings():
            image = _identified(file, name)
            _read_exif(image)
        with closing(image):  # which lets go of its pixels too
            yield image


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep Pillow's warnings from everybody, for one thread at a time."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def image_orientation(image: Image.Image) -> int:
    """Return how the camera was held, from 1 to 8, as Exif or XMP has it."""
    # PngImageFile.getexif would decode a picture that has none.
    orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _read_exif(image: ImageFile.ImageFile) -> None:
    """Read what Pillow would read of it while it decodes, when its warnings are not caught."""
    image_orientation(image)
    if image.format == "TIFF":
        exif = image.getexif()
        for group in exif.keys() & {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop}:
            exif.get_ifd(group)


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """Turn whatever is wrong with the image file of this name into one line for the user."""
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise SkippedImage(
            f"{name} has more pixels than there is memory for; make it smaller first", "too large"
        ) from error
    except Exception as error:  # a decoder may fail in any way on a broken file
        if isinstance(error, OSError) and error.strerror:
            message = f"could not read {name}: {error.strerror}; check the path"
            raise SkippedImage(message, "unreadable") from error
        why = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, IndexError | struct.error):
            why = "its header is cut off"
        raise SkippedImage(f"{name} is broken ({why}); export or download it again") from error


def _identified(file: io.BufferedIOBase, name: str) -> ImageFile.ImageFile:
    """Return the image of the first format that takes the file."""
    prefix = file.read(16)
    if not prefix:
        raise SkippedImage(f"{name} is empty; export or download it again", "broken")
    failure: Exception | None = None
    for kind in chain(FORMATS, _formats_by_name(name)):
        if kind not in Image.OPEN:
            Image.init()  # the rarer formats are loaded when first asked for
        if kind not in Image.OPEN or not _accepts(kind, prefix):
            continue
        try:
            factory = Image.OPEN[kind][0]
            return _opened(factory, png_without_extras(file) if kind == "PNG" else file)
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            failure = error
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS:
        return _opened(_heif(name), file)
    if failure is not None:
        raise failure
    Image.init()
    for kind in Image.OPEN:
        if Image.OPEN[kind][1] is not None and _accepts(kind, prefix):
            raise SkippedImage(
                f"{name} is in the format {kind}, which is not read; convert it to PNG or JPEG",
                "format not read",
            )
    raise SkippedImage(
        f"{name} is not an image in a format that can be read; convert it to PNG or JPEG",
        "not an image",
    )


def _formats_by_name(name: str) -> Iterator[str]:
    kind = Image.registered_extensions().get(Path(name).suffix.lower())
    if kind in FORMATS_BY_NAME:
        yield kind


def _accepts(kind: str, prefix: bytes) -> bool:
    """Return whether a file of this format may begin so."""
    accepts = Image.OPEN[kind][1]
    try:
        answer = accepts is None or accepts(prefix)
    except (IndexError, struct.error):  # too short for it
        return False
    # In words it says that Pillow was built without the format.
    return bool(answer) and not isinstance(answer, str)


def _opened(factory: Callable, file: io.BufferedIOBase) -> ImageFile.ImageFile:
    """Let the format read its header; as `Image.open`, but for its limit, which is one for all."""
    file.seek(0)
    return factory(file, "")


def _heif(name: str) -> Callable:
    try:
        from pillow_heif import HeifImageFile  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise SkippedImage(
            f"{name} is in the format HEIF, which needs an extra; pip install 'igpt[heif]'",
            "format not read",
        ) from error
    return HeifImageFile


# PNG

_SIGNATURE = 8  # bytes before the first chunk
_OF_THE_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTED_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_MOST_TEXT = 2**20  # bytes that Pillow reads of one
_Piece = tuple[int, int]


def png_without_extras(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """Return a PNG without its texts, profiles and later frames, which are many times its size.

    Pillow refuses a picture for a text of more than a MiB (a workflow, say) before it looks at the
    pixels. Texts that say how the camera was held stay, and so does the very file where there is
    nothing to leave out.
    """
    size = file.seek(0, io.SEEK_END)
    head: list[_Piece] = [(0, _SIGNATURE)]
    data: list[_Piece] = []
    start, complete = _SIGNATURE, True
    file.seek(start)
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        stop = min(start + length + 12, size)
        piece = (start, stop - start)
        if kind == b"IEND" or not kind.isalpha():
            data.append((start, size - start))
            break
        if kind in _OF_THE_PICTURE or (kind in _TEXTS and _is_oriented(file, kind, length)):
            if kind != b"IDAT" and data:
                complete = False  # it has to be moved before the pixels
            (data if kind == b"IDAT" else head).append(piece)
        else:
            complete = False
        start = stop
        file.seek(start)
    return file if complete else io.BufferedReader(_Pieces(file, head + data))


def _is_oriented(file: io.BufferedIOBase, kind: bytes, length: int) -> bool:
    """Return whether the text of a PNG that begins here may say how the camera was held."""
    if length > _MOST_TEXT:
        return False
    keyword, _, text = file.read(length).partition(b"\0")
    if keyword not in _ORIENTED_TEXTS:
        return False
    if kind == b"zTXt":
        packed = text[1:]
    elif kind == b"iTXt" and text[:1] == b"\1":
        packed = text[2:].split(b"\0", 2)[-1]  # behind two names
    else:
        return True
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, _MOST_TEXT)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail


class _Pieces(io.RawIOBase):
    """Pieces of a file as if they were all of one, without a copy."""

    def __init__(self, file: io.BufferedIOBase, pieces: list[_Piece]) -> None:
        self._file = file
        self._pieces = pieces
        self._ends = list(accumulate(length for _, length in pieces))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def readinto(self, buffer, /) -> int:  # type: ignore[override]
        index = bisect_right(self._ends, self._position)
        if index == len(self._pieces):
            return 0
        start, length = self._pieces[index]
        left = self._ends[index] - self._position
        self._file.seek(start + length - left)
        read = self._file.read(min(left, len(buffer)))
        buffer[: len(read)] = read
        self._position += len(read)
        return len(read)
