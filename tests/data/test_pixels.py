"""Digits and MNIST as sequences: the right pixels in the right order, and a clear word about files that are wrong."""

import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from src.choices import module_of
from src.config import Config
from src.data.arrays import ArrayData
from src.data.build import build_data
from src.errors import RequestError

Configured = Callable[..., Config]
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def everything(data: Any, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [N, T, I] and classes [N] of a split."""
    (batch,) = data.loader(split, 10_000).epoch()
    return batch.inputs.transpose(0, 1), batch.targets


def digits(configured: Configured, order: str, *overrides: str, seed: int = 0) -> ArrayData:
    data = build_data(configured("data=digits", f"data.order={order}", *overrides).data, seed)
    assert isinstance(data, ArrayData)
    return data


def test_rows_pixels_and_permuted_pixels_are_the_same_pictures(configured: Configured) -> None:
    pictures = {tuple(picture.ravel()) for picture in load_digits().images / 16}
    data = {order: digits(configured, order) for order in ("sequential", "rows", "permuted")}
    sequential, classes = everything(data["sequential"])
    rows, _ = everything(data["rows"])
    permuted, same_classes = everything(data["permuted"])
    assert sequential.shape == permuted.shape == (1438, 64, 1) and rows.shape == (1438, 8, 8)
    assert torch.equal(rows.flatten(1), sequential.flatten(1)) and torch.equal(classes, same_classes)
    assert all(tuple(picture) in pictures for picture in sequential.flatten(1)[:50].double().tolist())
    order = np.random.default_rng(0).permutation(64)
    assert torch.equal(permuted, sequential[:, order])
    other, _ = everything(digits(configured, "permuted", "data.permutation_seed=1"))
    assert not torch.equal(other, permuted)
    assert data["rows"].spec.feature_size == 8 and data["permuted"].spec.feature_size == 1


def test_the_holdout_and_its_majority_are_those_of_the_split_seed(configured: Configured) -> None:
    data, other_run = digits(configured, "rows", seed=0), digits(configured, "rows", seed=1)
    assert torch.equal(everything(data, "val")[0], everything(other_run, "val")[0])
    reshuffled = digits(configured, "rows", "data.split_seed=null", seed=1)
    assert not torch.equal(everything(data, "val")[0], everything(reshuffled, "val")[0])
    _, classes = everything(data, "val")
    assert data.spec.baseline["val"]["accuracy"] == pytest.approx(classes.bincount().max().item() / len(classes))
    assert len(data.splits["train"]) + len(data.splits["val"]) == 1797


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def made() -> dict[str, np.ndarray]:
    """Forty training and ten test pictures of 5 x 4 pixels, by the official names of their files."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (50, 5, 4), dtype=np.uint8)
    classes = (np.arange(50) % 10).astype(np.uint8)
    return dict(zip(NAMES, (pictures[:40], classes[:40], pictures[40:], classes[40:]), strict=True))


@pytest.fixture
def folder(tmp_path: Path, made: dict[str, np.ndarray]) -> Path:
    """The files, packed, and their checksums beside them."""
    (tmp_path / "files").mkdir()
    for name, array in made.items():
        (tmp_path / "files" / f"{name}.gz").write_bytes(gzip.compress(idx(array), mtime=0))
    return tmp_path / "files"


def options(configured: Configured, folder: Path | None = None, **changes: Any) -> Any:
    """The options of conf/, with the checksums of the packed files in ``folder``."""
    found = configured("data=mnist", "data.holdout=0.25").data
    if folder is not None:
        changes["md5"] = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.glob("*.gz")}
    return found.model_copy(update=changes)


def build(chosen: Any) -> Any:
    return module_of("data", "mnist").build(chosen, 0)


def assert_is_made(data: Any, made: dict[str, np.ndarray]) -> None:
    inputs, classes = everything(data, "test")
    np.testing.assert_allclose(inputs.numpy().reshape(-1, 5, 4) * 255, made[NAMES[2]], atol=1e-4)
    assert classes.tolist() == made[NAMES[3]].tolist()
    train, val = everything(data, "train")[0], everything(data, "val")[0]
    assert (len(train), len(val)) == (30, 10)
    joined = {tuple(np.rint(row * 255).astype(int)) for row in torch.cat((train, val)).flatten(1).numpy()}
    assert joined == {tuple(picture.ravel().tolist()) for picture in made[NAMES[0]]}


def test_mnist_is_read_from_packed_plain_and_numpy_files(
    configured: Configured, folder: Path, made: dict[str, np.ndarray], tmp_path: Path
) -> None:
    assert_is_made(build(options(configured, folder, path=str(folder))), made)
    plain = tmp_path / "plain"
    plain.mkdir()
    for name, array in made.items():
        (plain / name.replace("-idx", ".idx" if "train" in name else "-idx")).write_bytes(idx(array))
    assert_is_made(build(options(configured, path=str(plain))), made)
    arrays = dict(zip(("x_train", "y_train", "x_test", "y_test"), made.values(), strict=True))
    np.savez(tmp_path / "mnist.npz", **arrays)
    assert_is_made(build(options(configured, path=str(tmp_path / "mnist.npz"))), made)
    np.savez(tmp_path / "train.npz", x_train=arrays["x_train"], y_train=arrays["y_train"])
    assert set(build(options(configured, path=str(tmp_path / "train.npz"))).splits) == {"train", "val"}


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """A web server of the packed files."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, directory=str(folder), **options)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}/"
        http.shutdown()


def test_mnist_is_downloaded_once_and_checked(
    configured: Configured, folder: Path, made: dict[str, np.ndarray], server: str, tmp_path: Path
) -> None:
    chosen = options(configured, folder, url=server, cache_dir=str(tmp_path / "cache"))
    assert_is_made(build(chosen), made)
    for path in folder.glob("*.gz"):
        path.unlink()
    assert_is_made(build(chosen), made)  # no server is asked again


def test_a_download_of_another_file_is_refused(
    configured: Configured, folder: Path, server: str, tmp_path: Path
) -> None:
    chosen = options(configured, folder, url=server, cache_dir=str(tmp_path / "cache"))
    (folder / f"{NAMES[0]}.gz").write_bytes(b"another")
    with pytest.raises(RequestError, match=r"sent another file than expected: md5 \w+, not \w+; nothing was kept"):
        build(chosen)
    assert not list((tmp_path / "cache").rglob("train-images*"))[1:]  # only the lock


def test_files_that_are_not_right_are_named(configured: Configured, folder: Path, tmp_path: Path) -> None:
    chosen = options(configured, folder, path=str(folder))
    packed = folder / f"{NAMES[2]}.gz"
    good = packed.read_bytes()

    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(RequestError, match=message):
            build(chosen.model_copy(update=changes))

    packed.write_bytes(good[:-9])
    refused(r"t10k-images-idx3-ubyte.gz: md5 \w+, not \w+: this is not the official file")
    refused("t10k-images-idx3-ubyte.gz: damaged, or not packed with gzip", md5={})
    packed.write_bytes(gzip.compress(b"<html>"))
    refused("not an IDX file of bytes in 3 dimensions", md5={})
    packed.write_bytes(gzip.compress(gzip.decompress(good)[:-1]))
    refused("damaged, 199 bytes of data and not 200", md5={})
    packed.unlink()
    refused("has no t10k-images-idx3-ubyte and no t10k-images-idx3-ubyte.gz")
    refused("data.path=nowhere: no such folder or archive", path="nowhere")
    refused("needs data.path, or a data.cache_dir", path=None, cache_dir=None)

    archive = tmp_path / "mnist.npz"
    archive.write_bytes(b"PK, but no more")
    refused("damaged, or no NumPy archive", path=str(archive))
    np.save(tmp_path / "mnist.npy", np.zeros(3))
    refused("damaged, or no NumPy archive", path=str(tmp_path / "mnist.npy"))
    np.savez(archive, x_train=np.zeros((3, 2, 2), np.uint8))
    refused("has no array 'y_train'; it has x_train", path=str(archive))
    np.savez(archive, x_train=np.zeros((3, 4), np.uint8), y_train=np.zeros(3, np.uint8))
    refused(r"expected pictures \[N, height, width\] of bytes .* not uint8 \[3, 4\] and \[3\]", path=str(archive))
    np.savez(archive, x_train=np.zeros((3, 2, 2), np.uint8), y_train=np.full(3, 200, np.uint8))
    refused("the classes are not digits", path=str(archive))
    np.savez(archive, x_train=np.zeros((3, 2, 2), np.uint8), y_train=np.full(3, -1))
    refused("the classes are not digits", path=str(archive))
    train = {"x_train": np.zeros((8, 2, 2), np.uint8), "y_train": np.arange(8) % 2}
    np.savez(archive, **train, x_test=np.zeros((3, 2, 3), np.uint8), y_test=np.arange(3))
    refused(r"data=mnist: training pictures of \[2, 2\] pixels, test pictures of \[2, 3\]", path=str(archive))
    np.savez(archive, **train, x_test=np.zeros((3, 2, 2), np.uint8), y_test=np.array([0, 5, 1]))
    assert len(build(chosen.model_copy(update={"path": str(archive)})).spec.class_names) == 6
