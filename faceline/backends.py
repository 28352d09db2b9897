"""What is particular about the backends of a remote store: how they are opened, and what their errors say to a person.

Settings that a user gives fsspec (``~/.config/fsspec/s3.json``, ``FSSPEC_S3_…``) go before those made here.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import logging
import re
import socket
import time
from collections.abc import Mapping
from typing import Any

from faceline.errors import StoreError, UsageError

log = logging.getLogger(__name__)

BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "az")
"""Protocols without folders: nothing has to be made before a file is put."""

S3 = ("s3", "s3a")

CONTACT_S = 30.0
"""How long the store may take to answer a process for the first time."""

ANSWER_S = 30.0
"""How long the store may take to begin its answer to one request, all tries together."""

STILL_S = 120.0
"""How long uploads may stand still, all of a process together. A part is sent in pieces of up to 1 MiB, and ten share
the line: slow lines are no silent ones."""

_S3_CONFIG = {"connect_timeout": 5, "read_timeout": 20, "retries": {"total_max_attempts": 4, "mode": "standard"}}
"""botocore's own settings are five tries with a minute of silence each; a second try fits into `ANSWER_S`."""
_S3_POOL = {"max_pool_connections": 64}
"""More than are asked for at once: who waits for a connection must not be taken for one who gets no answer."""
_S3_SENDING = {"read_timeout": 30}
"""What the system holds has still to be sent when the waiting for an answer begins."""
_UNSENT_BYTES = 128 << 10
"""So much of a connection's data may wait in the system for its turn, which by itself takes megabytes: on a slow line
they would keep everything still for long, and count as sent when the waiting for an answer begins."""
_S3_ROUNDS = 2
"""s3fs does all that five times over; once more is for connections that break while an answer is read."""

_ACCESS = re.compile(r"(?<=//)[^/@\s]*@|(?<=[?&])(X-Amz-[\w-]+|AWSAccessKeyId|Signature)=[^&\s]*")


def check_url(url: str) -> str:
    """The protocol of a remote store's URL.

    Raises:
        UsageError: it holds credentials or a pattern, or names no bucket.
    """
    protocol, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0] or "?" in rest:
        raise UsageError(
            "store.root holds credentials or options, which would be written into every manifest",
            cure="give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by AWS_PROFILE",
        )
    if set("*[]") & set(rest):
        raise UsageError(
            f"store.root={url} holds *, [ or ], which backends take for patterns", cure="choose another name"
        )
    if protocol in BUCKETS and not rest.strip("/"):
        raise UsageError(f"store.root={url} names no bucket", cure=f"write {protocol}://BUCKET/PREFIX")
    return protocol


def open_filesystem(protocol: str, url: str, *, sending: bool = False) -> Any:
    """fsspec's file system; one of its own, since fsspec makes another for every thread and keeps them for ever.

    Args:
        protocol, url: of `check_url`, and what it was given.
        sending: it is to send and copy large files, which may take any time as long as they move; what is asked by any
            other one is answered soon or not at all. Only S3 makes the difference.
    """
    import fsspec
    from fsspec.config import conf

    # Cached listings would hide what other machines have written since.
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if protocol in S3:
        given = {**conf.get("s3a", {}), **conf.get("s3", {})}.get("config_kwargs", {})
        own = {**_S3_SENDING, **_short_queues(given)} if sending else _S3_POOL
        options["config_kwargs"] = {**_S3_CONFIG, **own, **given}
    try:
        filesystem = fsspec.filesystem(protocol, **options)
    except ImportError as error:
        raise UsageError(
            f"store.root={url} needs a package that is not installed ({error})",
            cure="install it: pip install 'faceline[s3]' for s3://",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"store.root={url}: {error}", cure="give a folder, or a URL such as s3://BUCKET/PREFIX"
        ) from error
    if protocol in S3:
        filesystem.retries = _S3_ROUNDS
        filesystem._call_s3 = (_Sender if sending else _Asker)(filesystem._call_s3)
    return filesystem


def _short_queues(given: Mapping[str, Any]) -> dict[str, Any]:
    """The setting that bounds `_UNSENT_BYTES`, where the installed aiobotocore has one and the user's go with it."""
    own = {"connector_args": {"socket_factory": _socket_with_short_queue}}
    try:
        importlib.import_module("aiobotocore.config").AioConfig(**{**own, **given})
    except Exception as error:  # What is wrong with the user's own is told where it is used.
        log.info("uploads go without short queues: %s", error)
        return {}
    return own


def _socket_with_short_queue(address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    return made


class _Asker:
    """Requests of s3fs, each given up after `ANSWER_S`. Their tries are bounded by themselves only, and not even that:
    aiohttp waits for ever for a server that does not say whether it wants what is to be sent (100-continue)."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return await asyncio.wait_for(self._call(method, *arguments, **options), ANSWER_S)
        except TimeoutError as error:
            # s3fs would try again after any error of its own or a timeout.
            raise ConnectionError(f"no answer for {ANSWER_S:.0f} s") from error


class _Sender:
    """Requests of s3fs that may take long, given up when for `STILL_S` nothing of any of them has moved."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.moved_s = 0.0

    async def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        if isinstance(options.get("Body"), bytes):
            options["Body"] = _Moving(options["Body"], self)
        began_s = time.monotonic()
        request = asyncio.ensure_future(self._call(method, *arguments, **options))
        try:
            while not request.done():
                left_s = max(began_s, self.moved_s) + STILL_S - time.monotonic()
                if left_s <= 0:
                    raise ConnectionError(f"nothing moves for {STILL_S:.0f} s")
                await asyncio.wait([request], timeout=left_s)
            self.moved_s = time.monotonic()
            return request.result()
        finally:
            request.cancel()


class _Moving(io.BytesIO):
    """What is sent, which tells when a piece of it is taken. botocore makes a `BytesIO` of bytes in any case."""

    def __init__(self, data: bytes, sender: _Sender) -> None:
        super().__init__(data)
        self._sender = sender

    def read(self, size: int | None = -1, /) -> bytes:
        self._sender.moved_s = time.monotonic()
        return super().read(size)


def code_of(error: BaseException | None) -> str:
    """S3's own word for what went wrong; empty where there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, Mapping):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def missing_bucket(url: str) -> StoreError:
    """The error for a bucket that is not there."""
    bucket = url.partition("://")[2].partition("/")[0]
    return StoreError(f"there is no bucket {bucket}", where=url, cure="create it, or correct store.root")


def trouble(url: str, error: Exception) -> StoreError:
    """What a backend raised, in a line; whatever it quotes of an address, no credentials."""
    code, kind = code_of(error), type(error).__name__
    if code == "NoSuchBucket":
        return missing_bucket(url)
    said = _ACCESS.sub("", " ".join(str(error).split()))[:200]
    if "Credential" in kind or kind in ("TokenRetrievalError", "SSOTokenLoadError", "ProfileNotFound"):
        what, cure = f"no credentials: {said}", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    elif isinstance(error, PermissionError):
        what = f"the object store refuses access ({code or kind}: {said})"
        cure = "the credentials must allow to list the bucket, and to read, write and delete below the prefix"
    elif kind in ("ParamValidationError", "InvalidRegionError", "UnknownEndpointError") or code == "InvalidBucketName":
        what, cure = f"the object store cannot be asked so ({said})", "check store.root and the AWS_ variables"
    else:
        told = StoreError(
            f"the object store does not answer as it should ({code or kind}: {said})",
            where=url,
            cure="check the network and AWS_ENDPOINT_URL, then run again; what is stored is kept",
        )
        told.can_pass = True
        return told
    return StoreError(what, where=url, cure=cure)
