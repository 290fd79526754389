"""60,000 + 10,000 handwritten digits of 28 x 28 pixels (LeCun, Bottou, Bengio & Haffner 1998).

Read from a local copy, or downloaded: the four official IDX files, packed with gzip or not, or one NumPy archive.
"""

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from src.data.arrays import ArrayData
from src.data.download import fetch, md5_of
from src.data.pixels import Labelled, PixelOptions, read_pixels
from src.errors import RequestError

HALVES = {"train": "train", "test": "t10k"}
KINDS = {"images-idx3": 3, "labels-idx1": 1}
BYTES = 0x08
"""IDX's code for unsigned bytes, which is all that these files hold."""


class Options(PixelOptions):
    """``conf/data/mnist.yaml``."""

    name: Literal["mnist"]
    path: str | None
    """Folder of the IDX files, or a .npz with x_train, y_train and perhaps x_test, y_test; null downloads the files."""
    url: str
    """Folder to download from."""
    md5: dict[str, str]
    """Checksums of the packed files, wherever they come from."""
    cache_dir: str | None
    """Folder for the download."""


def build(options: Options, seed: int) -> ArrayData:
    """Read the pictures.

    Raises:
        RequestError: they are not there, damaged, or not what they should be.
    """
    path = Path(options.path).expanduser() if options.path is not None else _download(options)
    if path.is_dir():
        train, test = (_read_half(path, half, options) for half in HALVES)
        return read_pixels(options, seed, train, test, brightest=255)
    if not path.exists():
        raise RequestError(f"data.path={options.path}: no such folder or archive; leave it out to download the files")
    halves = _read_archive(path)
    return read_pixels(options, seed, halves["train"], halves.get("test"), brightest=255)


def _download(options: Options) -> Path:
    if options.cache_dir is None:
        raise RequestError("data=mnist needs data.path, or a data.cache_dir to download to")
    folder = Path(options.cache_dir).expanduser() / "mnist"
    for name, md5 in options.md5.items():
        fetch(f"{options.url.rstrip('/')}/{name}", folder, md5)
    return folder


def _read_half(folder: Path, half: str, options: Options) -> Labelled:
    pictures, classes = (
        _read_idx(_find(folder, f"{HALVES[half]}-{kind}-ubyte", options), dimensions)
        for kind, dimensions in KINDS.items()
    )
    return _checked(pictures, classes, folder)


def _find(folder: Path, name: str, options: Options) -> Path:
    """The file by its official name (train-images-idx3-ubyte, or train-images.idx3-ubyte as some unpack it), packed or
    not; the checksum of a packed one must be right."""
    plain = [folder / name, folder / name.replace("-idx", ".idx")]
    for path in plain:
        if path.is_file():
            return path
    packed = folder / f"{name}.gz"
    if not packed.is_file():
        raise RequestError(f"{folder} has no {name} and no {packed.name}: the four official files are needed")
    expected = options.md5.get(packed.name)
    if expected is not None and (found := md5_of(packed)) != expected:
        raise RequestError(f"{packed}: md5 {found}, not {expected}: this is not the official file; get it anew")
    return packed


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read a file of the IDX format: two zero bytes, the type's code, how many dimensions, their sizes, the data."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{path}: damaged, or not packed with gzip ({error})") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, BYTES, dimensions)):
        raise RequestError(f"{path}: not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise RequestError(f"{path}: damaged, {len(content) - header:,} bytes of data and not {math.prod(shape):,}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_archive(path: Path) -> dict[str, Labelled]:
    """Read an archive in the manner of Keras's mnist.npz."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise RequestError(f"{path}: damaged, or no NumPy archive (.npz); a folder of IDX files will do too") from error
    missing = {"x_train", "y_train"} - arrays.keys()
    if missing:
        raise RequestError(f"{path} has no array {sorted(missing)[0]!r}; it has {', '.join(arrays) or 'none'}")
    halves = [half for half in HALVES if {f"x_{half}", f"y_{half}"} <= arrays.keys()]
    return {half: _checked(arrays[f"x_{half}"], arrays[f"y_{half}"], path) for half in halves}


def _checked(pictures: NDArray[np.uint8], classes: NDArray[np.uint8], path: Path) -> Labelled:
    if pictures.ndim != 3 or pictures.dtype != np.uint8 or classes.shape != pictures.shape[:1] or len(classes) < 2:
        raise RequestError(
            f"{path}: expected pictures [N, height, width] of bytes and a class for each, not {pictures.dtype}"
            f" {list(pictures.shape)} and {list(classes.shape)}"
        )
    if classes.dtype.kind not in "iu" or not 0 <= classes.min() <= classes.max() <= 9:
        raise RequestError(f"{path}: the classes are not digits")
    return pictures, classes.astype(np.int64)
