"""Passwords by argon2id."""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hub.kit.errors import Invalid
from hub.kit.i18n import _

_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
MIN_LENGTH = 10


def hash_password(password: str) -> str:
    """The argon2id hash of `password` (OWASP's parameters: 19 MiB, 2 passes)."""
    return _hasher.hash(password)


def matches(stored: str, password: str) -> bool:
    """Whether `password` is the one that was hashed."""
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def dummy() -> str:
    """A hash to verify when the login is unknown, so that an unknown login takes as long as a wrong password."""
    return hash_password("no such person")


def check_strength(password: str, *, login: str = "") -> None:
    """Refuse what is guessed first.

    Raises:
        Invalid: Shorter than 10 characters, of fewer than 5 different ones, or holding the login.
    """
    if len(password) < MIN_LENGTH:
        raise Invalid(fields={"password": _("密码至少 {n} 位").format(n=MIN_LENGTH)}, code="weak-password")
    if len(set(password)) < 5 or (login and login.lower() in password.lower()):
        raise Invalid(fields={"password": _("密码太容易猜到,请换一个")}, code="weak-password")
