"""One file over HTTP: resumable, verified, renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from faceline.errors import ModelError

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 18


class _Broken(Exception):
    """The transfer ended early; what arrived is kept and can be continued."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    size_bytes: int | None = None,
    check: Callable[[Path], None] | None = None,
    by_hand: str = "",
    progress: Callable[[int, int | None], None] | None = None,
    attempts: int = 4,
    timeout_s: float = 30.0,
) -> None:
    """Download ``url`` to ``target``, which appears only when it is whole and verified.

    Bytes go to ``<target>.part`` beside the target and stay there when the transfer breaks off; the next attempt, in
    this call or a later one, asks for the rest with ``Range``. ``If-Range`` with the server's validator, kept in
    ``<target>.part.tag``, makes the server start over when the file has changed meanwhile.

    Args:
        url: where from; http or https.
        target: where to; its folder is made.
        sha256: expected digest, when known.
        size_bytes: expected size, when known; what the server announces is checked in any case.
        check: called with the complete part file; raises `ModelError` when the content is not what it should be.
        by_hand: what a person can do instead, appended to the cure of every error.
        progress: called with (bytes so far, bytes in all or None).
        attempts: how often a transfer that breaks off is continued.
        timeout_s: longest silence of the server.

    Raises:
        ModelError: unreachable, refused, broken off for good, or not the expected content (the part file of a wrong
            content is deleted, so that it is never continued).
    """
    part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.tag")

    def failure(what: str, cure: str) -> ModelError:
        return ModelError(what, where=target.name, cure=", ".join(filter(None, [cure, by_hand])))

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, attempts + 1):
            try:
                _transfer(url, part, tag, progress, timeout_s)
                break
            except (_Broken, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                logger.info("transfer of %s broke off (attempt %d of %d): %s", target.name, attempt, attempts, error)
                if attempt == attempts:
                    raise failure(f"the download broke off {attempts} times", "run it again to continue") from error
    except urllib.error.HTTPError as error:
        raise failure(f"the server answered {error.code} {error.reason}", "try again later") from error
    except urllib.error.URLError as error:
        raise failure(f"cannot be reached ({error.reason})", "check the network") from error
    except OSError as error:
        raise failure(f"cannot be written ({error.strerror or error})", "check folder, space and rights") from error

    try:
        _verify(part, sha256, size_bytes)
        if check is not None:
            check(part)
    except ModelError as error:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise failure(error.what, "run it again") from error
    part.replace(target)
    tag.unlink(missing_ok=True)


def _transfer(
    url: str, part: Path, tag: Path, progress: Callable[[int, int | None], None] | None, timeout_s: float
) -> None:
    """Append to ``part`` until the server's announced end; `_Broken` if it stops before."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "faceline", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag.exists():
            request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Range not satisfiable: the part is whole already, or longer than the file and thus of another one.
        if error.headers.get("Content-Range", "") == f"bytes */{have}":
            return
        part.unlink()
        raise _Broken("the part on disk does not fit the file on the server") from error
    with response:
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _Broken("the server continued at another place than asked")
        if response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        validator = response.headers.get("ETag")
        with contextlib.ExitStack() as stack:
            if validator and not validator.startswith("W/"):
                tag.write_text(validator, encoding="utf-8")
            else:
                tag.unlink(missing_ok=True)
            stream = stack.enter_context(part.open("ab" if have else "wb"))
            while block := response.read(_CHUNK_BYTES):
                stream.write(block)
                have += len(block)
                if progress is not None:
                    progress(have, total)
    if total is not None and have < total:
        raise _Broken(f"{have} of {total} bytes arrived")


def _verify(part: Path, sha256: str | None, size_bytes: int | None) -> None:
    size = part.stat().st_size
    if size_bytes is not None and size != size_bytes:
        raise ModelError(f"{size} bytes arrived where {size_bytes} were expected")
    if sha256 is not None:
        with part.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != sha256:
            raise ModelError(f"the file that arrived is not the published one (SHA-256 {digest[:12]}…)")
