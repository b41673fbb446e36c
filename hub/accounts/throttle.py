"""Slowing down who guesses. Failures are written in a transaction of their own, after the refused one rolled back."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, func, select

from hub.accounts.models import LoginFailure
from hub.kit import clock
from hub.kit.db import database
from hub.kit.errors import TooMany
from hub.kit.i18n import _

WINDOW = timedelta(minutes=15)


def check(*subjects: str, limit: int) -> None:
    """Refuse where any subject (`login:…`, `ip:…`, `pin:…`) failed `limit` times within the window.

    Raises:
        TooMany: With `retry_after` in seconds.
    """
    since = clock.now() - WINDOW
    with database().reading() as session:
        for subject in subjects:
            # An address is shared by a whole clinic behind one router: it gets more room than a name.
            room = limit * 5 if subject.startswith("ip:") else limit
            found = (LoginFailure.subject == subject[:120], LoginFailure.at > since)
            count = session.scalar(select(func.count()).where(*found))
            if (count or 0) >= room:
                raise TooMany(_("失败次数过多,请 15 分钟后再试"), retry_after=int(WINDOW.total_seconds()))


def failed(*subjects: str) -> None:
    """Note a failure, and forget those past the window."""
    now = clock.now()
    with database().writing() as session:
        session.add_all(LoginFailure(subject=subject[:120], at=now) for subject in subjects)
        session.execute(delete(LoginFailure).where(LoginFailure.at < now - 4 * WINDOW))


def succeeded(*subjects: str) -> None:
    """Forget the failures of `subjects`."""
    with database().writing() as session:
        session.execute(delete(LoginFailure).where(LoginFailure.subject.in_([subject[:120] for subject in subjects])))
