"""Detached signatures: Ed25519 (RFC 8032) with a key of the user's own, by the library ``cryptography``.

The signature file holds the 64 bytes of the signature and nothing else, so that others can check it without faceline::

    openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in run.json -sigfile run.json.sig

Private keys are read where they are used and kept nowhere; messages name files, never their content.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from faceline.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "Ed25519"
SIGNATURE_BYTES = 64
_MOST_KEY_BYTES = 1 << 16
_MAKE_ONE = "make one with `openssl genpkey -algorithm ed25519 -out key.pem` or `ssh-keygen -t ed25519`"


@dataclass(frozen=True)
class PublicKey:
    """Checks signatures.

    Attributes:
        text: the key in OpenSSH's form, ``ssh-ed25519 AAAA…``, without a comment.
    """

    text: str
    _key: Ed25519PublicKey

    @property
    def fingerprint(self) -> str:
        """``SHA256:…``, as ``ssh-keygen -l`` shows it."""
        digest = hashlib.sha256(base64.b64decode(self.text.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Whether the signature was made for exactly these bytes with the private half of this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """Signs. Shows nothing of itself but its public half."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> PublicKey:
        """The half that checks."""
        return _public(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the signature; the same for the same data."""
        return self._key.sign(data)


def load_private_key(path: str | Path, option: str) -> PrivateKey:
    """A private key from a PEM (PKCS #8) or OpenSSH file.

    Args:
        path: the file.
        option: what named it, for error messages.

    Raises:
        UsageError: it is missing, encrypted, or no Ed25519 private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = _read(path, option)
    where = f"{option}={path}"
    if b"PRIVATE KEY-----" not in data:
        raise UsageError("holds no private key in PEM or OpenSSH form", where=where, cure=_MAKE_ONE)
    load = serialization.load_ssh_private_key if b"OPENSSH" in data else serialization.load_pem_private_key
    try:
        key = load(data, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, TypeError) or "password" in str(error).lower() or b"ENCRYPTED" in data:
            raise UsageError(
                "the key is encrypted, and nobody can be asked for its password here",
                where=where,
                cure="give a copy without one (`openssl pkey -in KEY -out COPY`, or `ssh-keygen -p` on a copy)",
            ) from None
        # The library's words may quote the file.
        raise UsageError("the private key cannot be read; it is damaged", where=where) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"is {_kind(key)}, not an Ed25519 private key", where=where, cure=_MAKE_ONE)
    return PrivateKey(key)


def load_public_key(path: str | Path, option: str) -> PublicKey:
    """A public key from a PEM or OpenSSH (``.pub``) file.

    Raises:
        UsageError: it is missing, or no Ed25519 public key.
    """
    data = _read(path, option)
    where = f"{option}={path}"
    if b"PRIVATE KEY-----" in data:
        raise UsageError("is a private key", where=where, cure="give the public one, and keep this one to yourself")
    key = _parsed_public(data)
    if key is None:
        raise UsageError("is no Ed25519 public key in PEM or OpenSSH form", where=where)
    return key


def public_key_of(text: str) -> PublicKey | None:
    """A public key from its text (see `PublicKey.text`), or None if it is none."""
    return _parsed_public(text.encode("utf-8", "replace"))


def _parsed_public(data: bytes) -> PublicKey | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    is_pem = data.lstrip().startswith(b"-----BEGIN")
    load = serialization.load_pem_public_key if is_pem else serialization.load_ssh_public_key
    try:
        key = load(data.strip())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return _public(key) if isinstance(key, Ed25519PublicKey) else None


def _public(key: Ed25519PublicKey) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return PublicKey(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(), key)


def _read(path: str | Path, option: str) -> bytes:
    if "\n" in str(path) or "PRIVATE KEY" in str(path):
        # A key given in place of its file must not be shown, and would stand in run.json.
        raise UsageError(f"{option}: takes the path of a file, not the key itself")
    try:
        with Path(path).open("rb") as file:
            return file.read(_MOST_KEY_BYTES)
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise UsageError(what, where=f"{option}={path}") from None


def _kind(key: object) -> str:
    return f"a key of kind {type(key).__name__.lstrip('_').removesuffix('PrivateKey')}"
