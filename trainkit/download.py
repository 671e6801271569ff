"""Download of published files: with progress, resumed after a break, verified, complete or absent."""

import http.client
import logging
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from trainkit.files import file_digest

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 30


class DownloadError(RuntimeError):
    """Failed or wrong download; the message says how to fetch the file by hand."""


def download(
    url: str, path: str | os.PathLike, *, md5: str | None = None, sha256: str | None = None, what: str = ""
) -> Path:
    """Downloads a file unless it exists already.

    The bytes go to `<path>.part`, which is renamed when it is complete and its checksums agree. A broken transfer
    resumes, within this call as long as it advances and otherwise in the next; a server that cannot continue a file
    sends it from the start.

    Args:
        url: Address of the file (http, https or file).
        path: Path of the file. An existing file is only verified.
        md5: Hexadecimal MD5 of the complete file, if its publisher gives one.
        sha256: Hexadecimal SHA-256 of the complete file, if its publisher gives one.
        what: Description of the file for messages; by default its name.

    Returns:
        `path` as a `Path`.

    Raises:
        DownloadError: The transfer failed or a checksum differs (the wrong download is removed; a file that existed
            before is kept). The message names the file, its address, and the path at which to put it by hand.
    """
    path = Path(path)
    what = what or path.name
    by_hand = f"Download {url} by hand and put it at {path.absolute()}"
    if path.exists():
        problem = _checksum_problem(path, md5, sha256)
        if problem:
            raise DownloadError(f"{path} is not {what} as published: {problem}. Remove it, or: {by_hand}.")
        return path

    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        while not _transfer(url, part, what):
            logger.warning("The download of %s was cut off; going on.", what)
        problem = _checksum_problem(part, md5, sha256)
        if problem:
            part.unlink()
            raise DownloadError(f"{url}: the downloaded file is not {what}: {problem}; it was removed. {by_hand}.")
        os.replace(part, path)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DownloadError(f"Could not download {what} from {url}: {error}. {by_hand}.") from error
    return path


def _transfer(url: str, part: Path, what: str) -> bool:
    """Appends the server's answer to `part`; returns whether the file is then complete.

    Raises:
        OSError: The connection cannot be made, the server refuses, or the file did not grow.
        ValueError: `url` is not an address.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "keras-nucleus"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if have and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _finish_unsatisfiable(part, error.headers.get("Content-Range", ""))
        raise
    with response:
        start, total = _extent(response, have)
        with part.open("ab") as file, _progress(what, start, total) as progress:
            # A server that ignored the range sends the whole file.
            file.truncate(start)
            gained = _copy(response, file, progress)
    if total is None or start + gained == total:
        return True
    if start + gained <= have or start + gained > total:
        raise OSError(f"the server sent {start + gained} of {total} bytes")
    return False


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Returns the offset at which a response's body begins in the file, and the file's size, or None if unknown."""
    length = response.headers.get("Content-Length")
    if response.status == http.client.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not match or int(match[1]) != have:
            raise OSError(f"the server answered a request for bytes from {have} on with another range")
        return have, None if match[2] == "*" else int(match[2])
    return 0, None if length is None else int(length)


def _finish_unsatisfiable(part: Path, content_range: str) -> bool:
    """Returns whether a `part` that the server cannot add to has the file's size; removes it otherwise."""
    if content_range.strip() == f"bytes */{part.stat().st_size}":
        return True
    part.unlink()
    return False


def _copy(response: http.client.HTTPResponse, file: BinaryIO, progress: tqdm) -> int:
    """Copies the body until it ends or breaks; returns the number of bytes written."""
    gained = 0
    try:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            progress.update(len(chunk))
            gained += len(chunk)
    except (ConnectionError, TimeoutError, http.client.IncompleteRead):
        # With bytes gained another request may go on from there; without any, this is the failure to report.
        if not gained:
            raise
    return gained


def _progress(what: str, start: int, total: int | None) -> tqdm:
    """Returns a progress bar in bytes that begins at `start`."""
    return tqdm(desc=what, initial=start, total=total, unit="B", unit_scale=True, unit_divisor=1024)


def _checksum_problem(path: Path, md5: str | None, sha256: str | None) -> str:
    """Returns which checksum of `path` differs and how, or an empty string."""
    for name, expected in (("md5", md5), ("sha256", sha256)):
        if expected is not None and (found := file_digest(path, name)) != expected.lower():
            return f"its {name} is {found}, not {expected.lower()}"
    return ""
