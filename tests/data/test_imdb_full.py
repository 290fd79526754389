"""The official set from a folder, an archive and the network (a server on this machine)."""

import functools
import hashlib
import logging
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from made_data import archive_of, make_options, official_files

import src.data.download
from src.data.build import build_data
from src.data.corpus import Corpus
from src.data.imdb_full import ImdbFullSource
from src.errors import RequestError


def read(**changes: object) -> Corpus:
    return ImdbFullSource(make_options("imdb_full", **changes), 0).read(True)


def test_folder_archive_and_parent_folder_hold_the_same_corpus(official_folder: Path, official_archive: Path) -> None:
    corpora = [read(path=str(path)) for path in (official_folder, official_folder.parent, official_archive)]
    assert corpora[0] == corpora[1] == corpora[2]


def test_the_holdout_comes_from_the_training_half_and_test_is_the_official_half(official_archive: Path) -> None:
    splits = read(path=str(official_archive)).splits
    assert {name: len(split.texts) for name, split in splits.items()} == {"train": 16, "val": 4, "test": 20}
    files = official_files()
    halves = {
        half: {content.decode() for name, content in files.items() if re.match(f"aclImdb/{half}/(neg|pos)", name)}
        for half in ("train", "test")
    }
    assert set(splits["test"].texts) == halves["test"]
    assert {*splits["train"].texts, *splits["val"].texts} == halves["train"]
    for split in splits.values():
        for text, label in zip(split.texts, split.labels, strict=True):
            (name,) = (name for name, content in files.items() if content.decode() == text)
            assert ("/neg/", "/pos/")[label] in name


def test_a_set_of_another_size_is_taken_with_a_warning(
    official_archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read(path=str(official_archive))
    assert caplog.records[0].getMessage().endswith("10 reviews in train/neg, not 12500")


def test_reviews_come_in_the_order_of_their_numbers_whatever_the_archive(tmp_path: Path) -> None:
    files = official_files()
    (tmp_path / "a.tar.gz").write_bytes(archive_of(files))
    (tmp_path / "b.tar.gz").write_bytes(archive_of(dict(reversed(files.items()))))
    assert read(path=str(tmp_path / "a.tar.gz")) == read(path=str(tmp_path / "b.tar.gz"))


def test_a_place_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such folder or archive; leave it out to download it"):
        read(path=str(tmp_path / "none"))
    with pytest.raises(RequestError, match=r"cannot read .*train/neg: .*; not the official set"):
        read(path=str(tmp_path))
    with pytest.raises(RequestError, match=r"needs data\.path, or a data\.cache_dir"):
        read(path=None)


def test_a_half_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive_of({name: text for name, text in official_files().items() if "test/pos" not in name}))
    with pytest.raises(RequestError, match=r"holds no test/pos/NUMBER_RATING\.txt: not the official set"):
        read(path=str(path))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_refused(official_archive: Path, share: float) -> None:
    content = official_archive.read_bytes()
    official_archive.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RequestError, match=r"is damaged, or no \.tar\.gz archive") as caught:
        read(path=str(official_archive))
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_refused(official_archive: Path) -> None:
    content = bytearray(official_archive.read_bytes())
    content[-6] ^= 1  # within gzip's checksum, which stands at the very end
    official_archive.write_bytes(content)
    with pytest.raises(RequestError, match="is damaged"):
        read(path=str(official_archive))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive_of({**official_files(), "aclImdb/test/pos/77_7.txt": b"caf\xe9"}))
    with pytest.raises(RequestError, match=r"aclImdb/test/pos/77_7\.txt: byte 0xe9 is not UTF-8"):
        read(path=str(path))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../evil.txt", tarfile.REGTYPE),
        ("/tmp/evil.txt", tarfile.REGTYPE),
        ("aclImdb/train/../../evil.txt", tarfile.REGTYPE),
        ("aclImdb/train/pos/99_9.txt", tarfile.SYMTYPE),
        ("aclImdb/train/pos/99_9.txt", tarfile.LNKTYPE),
        ("aclImdb/pipe", tarfile.FIFOTYPE),
    ],
)
def test_unsafe_members_are_refused_and_nothing_is_written(tmp_path: Path, name: str, kind: bytes) -> None:
    path = tmp_path / "a.tar.gz"
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member)
    with pytest.raises(RequestError, match="unsafe member"):
        read(path=str(path))
    assert list(tmp_path.iterdir()) == [path]


class Server:
    """Serves one file, with byte ranges, and breaks off as often as told."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.breaks_after: list[int] = []  # bytes that each of the next answers sends
        self.ranges = True
        self.status = 200
        self.asked: list[str | None] = []  # the Range header of every request
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/data/aclImdb_v1.tar.gz"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        body = self.content[start:]
        resumed = asked is not None and self.ranges
        if self.status != 200:
            handler.send_error(self.status)
            return
        if resumed and not body:
            handler.send_error(416)
            return
        handler.send_response(206 if resumed else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.breaks_after.pop(0)] if self.breaks_after else body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(src.data.download, "CHUNK", 100)  # what breaks off within a chunk is lost
    server = Server(archive_of(official_files()))
    thread = threading.Thread(target=functools.partial(server.http.serve_forever, poll_interval=0.01))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def download(server: Server, tmp_path: Path) -> Callable[[], Corpus]:
    """Download and read what the server has."""
    md5 = hashlib.md5(server.content).hexdigest()
    return functools.partial(read, url=server.url, md5=md5, cache_dir=str(tmp_path / "cache"))


def test_a_download_gives_the_corpus_and_is_done_once(
    server: Server, download: Callable[[], Corpus], official_archive: Path
) -> None:
    assert download() == download() == read(path=str(official_archive))
    assert server.asked == [None]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server: Server, download: Callable[[], Corpus]) -> None:
    server.breaks_after = [1000, 500]
    assert len(download().splits["test"].texts) == 20
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]


def test_a_download_given_up_is_kept_and_the_next_start_goes_on(
    server: Server, download: Callable[[], Corpus], tmp_path: Path
) -> None:
    server.breaks_after = [700, 0, 0]
    with pytest.raises(RequestError, match=r"the connection broke off; 700 bytes are kept, .*data\.path=FILE"):
        download()
    assert (tmp_path / "cache" / "aclImdb_v1.tar.gz.part").read_bytes() == server.content[:700]
    assert len(download().splits["test"].texts) == 20
    assert server.asked[-1] == "bytes=700-"
    assert not (tmp_path / "cache" / "aclImdb_v1.tar.gz.part").exists()


def test_a_server_that_cannot_resume_is_asked_for_all_of_it(server: Server, download: Callable[[], Corpus]) -> None:
    server.breaks_after, server.ranges = [1000], False
    assert len(download().splits["test"].texts) == 20
    assert server.asked == [None, "bytes=1000-"]


def test_a_part_that_is_whole_needs_nothing_more(
    server: Server, download: Callable[[], Corpus], tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "aclImdb_v1.tar.gz.part").write_bytes(server.content)
    assert len(download().splits["test"].texts) == 20


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"sent another file than expected: md5 .*, not 000"):
        read(url=server.url, cache_dir=str(tmp_path / "cache"))
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


def test_a_damaged_copy_is_fetched_again(server: Server, download: Callable[[], Corpus], tmp_path: Path) -> None:
    download()
    (tmp_path / "cache" / "aclImdb_v1.tar.gz").write_bytes(server.content[:-1])
    assert len(download().splits["test"].texts) == 20
    assert len(server.asked) == 2


def test_a_server_that_has_no_such_file_is_asked_once(server: Server, download: Callable[[], Corpus]) -> None:
    server.status = 404
    with pytest.raises(RequestError, match="the server answers 404 Not Found"):
        download()
    assert len(server.asked) == 1


def test_no_server_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(RequestError, match=r"no connection; 0 bytes are kept") as caught:
        read(cache_dir=str(tmp_path))  # the options' own address: nobody listens at port 9
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RequestError, match=r"cannot download to .*; set data\.cache_dir"):
        read(url=server.url, cache_dir=str(tmp_path / "file" / "cache"))


def test_the_progress_bar_shows_only_on_a_terminal(
    capfd: pytest.CaptureFixture[str], download: Callable[[], Corpus]
) -> None:
    download()
    assert capfd.readouterr() == ("", "")
    assert src.data.download._progress().disable


def test_the_second_start_takes_the_folder_from_the_cache_until_a_file_changes(
    official_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_options("imdb_full", path=str(official_folder), cache_dir=str(tmp_path / "cache"))
    reads = []
    real = ImdbFullSource.read
    monkeypatch.setattr(ImdbFullSource, "read", lambda self, fit: reads.append(1) or real(self, fit))
    first, second = (build_data(options, 0) for _ in range(2))
    assert len(reads) == 1
    assert first.splits["test"].ids.tolist() == second.splits["test"].ids.tolist()
    (official_folder / "train" / "pos" / "0_1.txt").write_text("Another text, of another length.")
    build_data(options, 0)
    assert len(reads) == 2
