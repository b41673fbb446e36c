"""Passwords and sealed secrets."""

from __future__ import annotations

import pytest
from cryptography.fernet import InvalidToken

from hub.accounts import passwords, people
from hub.accounts.secrets import seal_secret, unseal_secret
from hub.kit.errors import Invalid
from hub.kit.settings import get_settings


def test_hash_is_argon2id_salted() -> None:
    first, second = passwords.hash_password("correct-horse-9"), passwords.hash_password("correct-horse-9")
    assert first.startswith("$argon2id$")
    assert first != second
    assert passwords.matches(first, "correct-horse-9")
    assert not passwords.matches(first, "correct-horse-8")
    assert not passwords.matches("not a hash", "x")


@pytest.mark.parametrize("weak", ["", "short", "aaaaaaaaaaaa", "abcabcabcabc", "my-li.na-password"])
def test_weak(weak: str) -> None:
    with pytest.raises(Invalid):
        passwords.check_strength(weak, login="li.na")


def test_first_passwords_are_strong_and_readable() -> None:
    made = {people.random_password() for _n in range(200)}
    assert len(made) == 200
    for one in made:
        passwords.check_strength(one)
        assert not set(one) & set("01ilo")


@pytest.mark.usefixtures("hub_env")
def test_sealed_secrets_open_under_the_same_secret_only(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal_secret("JBSWY3DPEHPK3PXP")
    assert unseal_secret(sealed) == "JBSWY3DPEHPK3PXP"
    monkeypatch.setenv("HUB_SECRET_KEY", "another-" + "z" * 40)
    get_settings.cache_clear()
    with pytest.raises(InvalidToken):
        unseal_secret(sealed)
