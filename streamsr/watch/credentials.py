"""Secrets from the environment or from files, never from the configuration itself."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError
from ..io.rtsp_url import with_credentials

__all__ = ["KeyedError", "authorised", "secret"]


class KeyedError(ConfigError):
    """``key`` is of the table that is wrong, with dots; the message is to be read after it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def authorised(
    url: str, username_env: str | None, password_env: str | None, password_file: Path | None, prefix: str = ""
) -> str:
    """The RTSP address ``url`` with the credentials that are given, if any. prefix: of the keys' names."""
    if username_env is None and password_env is None and password_file is None:
        return url
    if username_env is None:
        raise KeyedError(f"{prefix}username_env", "is missing: it goes with the password")
    username = secret(f"{prefix}username", username_env, None)
    password = secret(f"{prefix}password", password_env, password_file)
    if password is None:
        raise KeyedError(f"{prefix}username_env", f"needs {prefix}password_env or {prefix}password_file")
    if "@" in url:
        raise KeyedError(f"{prefix}username_env", "is given, and the address has a user already")
    assert username is not None
    return with_credentials(url, username, password)


def secret(name: str, variable: str | None, file: Path | None) -> str | None:
    """What the environment or the first line of a file holds. Raises KeyedError, without the secret."""
    if variable is not None and file is not None:
        raise KeyedError(f"{name}_file", f"is given, and {name}_env too: keep one")
    if variable is not None:
        if not os.environ.get(variable):
            raise KeyedError(f"{name}_env", f"names {variable}, which is not set")
        return os.environ[variable]
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError as error:
        raise KeyedError(f"{name}_file", f"names {file}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyedError(f"{name}_file", f"names {file}, which is not text") from None
    if not text:
        raise KeyedError(f"{name}_file", f"names {file}, which is empty")
    return text
