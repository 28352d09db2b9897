"""What is particular about the backends of a remote store: how they are opened, and what their errors say to a person.

Settings that a user gives fsspec (``~/.config/fsspec/s3.json``, ``FSSPEC_S3_…``) go before those made here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from faceline.errors import StoreError, UsageError

BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "az")
"""Protocols without folders: nothing has to be made before a file is put."""

S3 = ("s3", "s3a")

CONTACT_S = 30.0
"""How long the store may take to answer a process for the first time."""

_S3_CONFIG = {"connect_timeout": 5, "read_timeout": 30, "retries": {"total_max_attempts": 4, "mode": "standard"}}
"""botocore's own settings are five tries with a minute of silence each; half a minute lets a slow line send a part."""
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


def open_filesystem(protocol: str, url: str) -> Any:
    """fsspec's file system; one of its own, since fsspec makes another for every thread and keeps them for ever."""
    import fsspec
    from fsspec.config import conf

    # Cached listings would hide what other machines have written since.
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if protocol in S3:
        given = {**conf.get("s3a", {}), **conf.get("s3", {})}.get("config_kwargs", {})
        options["config_kwargs"] = {**_S3_CONFIG, **given}
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
    return filesystem


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
