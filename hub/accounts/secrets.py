"""Sealing small secrets at rest under the hub's own secret."""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet

from hub.kit.settings import get_settings


def _box() -> Fernet:
    key = hashlib.sha256(b"hub-secrets-at-rest\0" + get_settings().secret().encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))


def seal_secret(text: str) -> str:
    """Encrypt and authenticate `text`."""
    return _box().encrypt(text.encode()).decode()


def unseal_secret(sealed: str) -> str:
    """Undo `seal_secret`.

    Raises:
        cryptography.fernet.InvalidToken: Altered, or sealed under another secret.
    """
    return _box().decrypt(sealed.encode()).decode()
