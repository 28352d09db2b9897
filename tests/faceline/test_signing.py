"""Signatures: keys of both kinds of file, one line for what is no such key, and OpenSSL's own opinion."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from faceline.errors import UsageError
from faceline.signing import PrivateKey, load_private_key, load_public_key, public_key_of

PLAIN = serialization.NoEncryption()
LOCKED = serialization.BestAvailableEncryption(b"secret")
PKCS8, OPENSSH = PrivateFormat.PKCS8, PrivateFormat.OpenSSH
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def write_private(path: Path, form: PrivateFormat, lock: serialization.KeySerializationEncryption = PLAIN) -> Path:
    path.write_bytes(KEY.private_bytes(Encoding.PEM, form, lock))
    return path


def write_public(path: Path, encoding: Encoding, form: PublicFormat) -> Path:
    path.write_bytes(
        KEY.public_key().public_bytes(encoding, form) + b" somebody@somewhere\n" * (encoding != Encoding.PEM)
    )
    return path


@pytest.mark.parametrize("form", [PKCS8, OPENSSH])
@pytest.mark.parametrize(
    ("encoding", "public_form"),
    [(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.OpenSSH, PublicFormat.OpenSSH)],
)
def test_either_form_of_key_signs_and_checks(
    tmp_path: Path, form: PrivateFormat, encoding: Encoding, public_form: PublicFormat
) -> None:
    private = load_private_key(write_private(tmp_path / "key", form), "option")
    public = load_public_key(write_public(tmp_path / "key.pub", encoding, public_form), "option")
    signature = private.sign(b"run")
    assert len(signature) == 64
    assert public.verifies(b"run", signature)
    assert public.text == private.public.text
    assert public_key_of(public.text) is not None


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")
def test_the_fingerprint_is_the_one_that_people_know(tmp_path: Path) -> None:
    path = write_public(tmp_path / "key.pub", Encoding.OpenSSH, PublicFormat.OpenSSH)
    told = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert load_public_key(path, "option").fingerprint in told.split()


@given(st.binary(max_size=200), st.integers(0, 511), st.integers(0, 10_000))
def test_any_changed_bit_is_noticed(data: bytes, bit: int, place: int) -> None:
    key = PrivateKey(KEY)
    signature = key.sign(data)
    altered = bytearray(signature)
    altered[bit // 8] ^= 1 << bit % 8
    assert not key.public.verifies(data, bytes(altered))
    if data:
        other = bytearray(data)
        other[place % len(data)] ^= 1 << bit % 8
        assert not key.public.verifies(bytes(other), signature)


def test_an_encrypted_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the key is encrypted") as told:
        load_private_key(write_private(tmp_path / "key", PKCS8, LOCKED), "custody.sign_key")
    assert "\n" not in str(told.value)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")
def test_an_encrypted_key_of_openssh_is_told(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "key")], check=True)
    with pytest.raises(UsageError, match="the key is encrypted"):
        load_private_key(tmp_path / "key", "custody.sign_key")


def test_what_is_no_such_key_is_told(tmp_path: Path) -> None:
    other = tmp_path / "ec.pem"
    other.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PKCS8, PLAIN))
    private = write_private(tmp_path / "key.pem", PKCS8)
    public = write_public(tmp_path / "key.pub", Encoding.OpenSSH, PublicFormat.OpenSSH)
    torn = tmp_path / "torn.pem"
    torn.write_bytes(b"-----BEGIN PRIVATE KEY-----\nTORNTORN\n-----END PRIVATE KEY-----\n")
    for path, told in [
        (tmp_path / "none", "no such file"),
        (tmp_path, "cannot be read"),
        (other, "not an Ed25519 private key"),
        (public, "holds no private key"),
        (torn, "damaged"),
    ]:
        with pytest.raises(UsageError, match=told) as caught:
            load_private_key(path, "custody.sign_key")
        assert "TORN" not in str(caught.value)
    for path, told in [(private, "is a private key"), (other, "is a private key"), (tmp_path / "none", "no such file")]:
        with pytest.raises(UsageError, match=told):
            load_public_key(path, "public_key")


def test_a_key_given_in_place_of_its_file_is_not_shown() -> None:
    text = KEY.private_bytes(Encoding.PEM, PKCS8, PLAIN).decode()
    for given_text in (text, " ".join(text.split())):
        with pytest.raises(UsageError, match="not the key itself") as caught:
            load_private_key(given_text, "custody.sign_key")
        assert text.splitlines()[1] not in str(caught.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_openssl_checks_the_signature_without_us(tmp_path: Path) -> None:
    public = write_public(tmp_path / "public.pem", Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "run.json").write_bytes(b"{}\n")
    (tmp_path / "run.json.sig").write_bytes(PrivateKey(KEY).sign(b"{}\n"))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
    command += ["-in", str(tmp_path / "run.json"), "-sigfile", str(tmp_path / "run.json.sig")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    (tmp_path / "run.json").write_bytes(b"{ }\n")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
