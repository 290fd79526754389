"""Fetch a file once, whole, and the right one; a transfer that breaks off goes on where it stopped."""

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from src.errors import RequestError

ATTEMPTS = 3
"""Connections that may break off before the user is told."""
TIMEOUT = 30
"""Seconds without a byte after which a connection counts as broken."""

CHUNK = 1 << 16
"""Bytes written at once; what breaks off within a chunk is asked for again."""


def md5_of(path: Path) -> str:
    """Checksum a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def fetch(url: str, folder: Path, md5: str) -> Path:
    """Return the local copy of ``url``, downloading what is missing of it.

    Until the checksum is right the file is called ``NAME.part``; a later call goes on from there. Processes that want
    the same file wait for the one that fetches it.

    Raises:
        RequestError: it cannot be had, or what the server sends has another checksum.
    """
    target = folder / Path(urlsplit(url).path).name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not (target.exists() and md5_of(target) == md5):
                _download(url, target, md5)
    except OSError as error:
        raise RequestError(f"cannot download to {folder}: {error.strerror or error}; set data.cache_dir") from error
    return target


def _download(url: str, target: Path, md5: str) -> None:
    part = target.with_name(f"{target.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, part)
            break
        except requests.RequestException as error:
            if attempt == ATTEMPTS or isinstance(error, requests.HTTPError):
                size = part.stat().st_size if part.exists() else 0
                raise RequestError(
                    f"cannot download {url}: {_reason(error)}; {size:,} bytes are kept, the next start goes on from"
                    " there; or give a local copy: data.path=FILE"
                ) from error
    found = md5_of(part)
    if found != md5:
        part.unlink()
        raise RequestError(
            f"{url} sent another file than expected: md5 {found}, not {md5}; nothing was kept, try again"
        )
    os.replace(part, target)


def _transfer(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks, or start over if the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing; the checksum tells whether it is the right file
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        with part.open("ab" if resumed else "wb") as file, _progress() as progress:
            bar = progress.add_task(part.stem, total=have + int(length) if length else None, completed=have)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                progress.advance(bar, len(chunk))


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _reason(error: requests.RequestException) -> str:
    match error:
        case requests.HTTPError(response=response) if response is not None:
            return f"the server answers {response.status_code} {response.reason}"
        case requests.Timeout():
            return "no answer in time"
        case requests.ConnectionError() if not isinstance(error, requests.exceptions.ChunkedEncodingError):
            return "no connection"
        case _:
            return "the connection broke off"
