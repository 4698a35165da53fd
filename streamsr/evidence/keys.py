"""Ed25519 keys in PEM files."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import ConfigError

__all__ = ["fingerprint", "make_key", "private_key", "public_bytes", "public_key"]

MOST_BYTES = 65_536  # of a key file


def make_key(path: Path) -> tuple[Path, str]:
    """Write a new private key to ``path``, for its owner alone, and the public one beside it.

    Returns the public key's path (``key.pem``: ``key.pub.pem``) and its fingerprint. Raises ConfigError.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public_path = path.with_name(f"{path.stem}.pub{path.suffix or '.pem'}")
    if public_path.exists():
        raise ConfigError(f"{public_path} exists: keys are never replaced, name another file")
    _create(path, private, 0o600)
    _create(public_path, public, 0o644)
    return public_path, fingerprint(public_bytes(key.public_key()))


def private_key(path: Path) -> Ed25519PrivateKey:
    """Raises ConfigError: missing, readable by others, no Ed25519 key, or encrypted."""
    data = _read(path)
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise ConfigError(f"others may read {path} (mode {mode:04o}): chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise ConfigError(f"{path} is encrypted: signing needs a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} is no private key in PEM: streamsr make-key FILE makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} must hold an Ed25519 key, got {type(key).__name__.strip('_')}")
    return key


def public_key(path: Path) -> bytes:
    """The 32 bytes of the public key in ``path``. Raises ConfigError."""
    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise ConfigError(f"{path} is a private key: give the public one")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} is no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} must hold an Ed25519 key, got {type(key).__name__.strip('_')}")
    return public_bytes(key)


def public_bytes(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def fingerprint(public: bytes) -> str:
    """SHA-256 of the 32 bytes, in hex: what to read out over the telephone."""
    return hashlib.sha256(public).hexdigest()


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read the key {path}: {error.strerror}") from None


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            file.write(data)
    except FileExistsError:
        raise ConfigError(f"{path} exists: keys are never replaced, name another file") from None
    except OSError as error:
        raise ConfigError(f"cannot write the key {path}: {error.strerror}") from None
