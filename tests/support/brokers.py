"""Redis databases for the tests: one for each who would else take another's messages."""

from __future__ import annotations

import os

from redis import Redis

DATABASES = range(1, 16)
"""Redis has 16 unless told otherwise; in number 0 stands who has which of the others."""
KEPT_SECONDS = 3 * 3600
"""After so long a claim is void: whoever made it was killed, and could not give it back."""


class Broker:
    """An empty database of the tests' Redis that nobody else uses until `give_back`."""

    def __init__(self) -> None:
        self._base = os.environ["HUB_TEST_BROKER_URL"].rpartition("/")[0]
        with Redis.from_url(f"{self._base}/0") as claims:
            self.number = next(
                (n for n in DATABASES if claims.set(f"hub-tests:{n}", os.getpid(), nx=True, ex=KEPT_SECONDS)), 0
            )
        if not self.number:
            raise AssertionError("all databases of the tests' Redis are taken; FLUSHALL it if no tests are running")
        self.url = f"{self._base}/{self.number}"
        self.empty()

    def empty(self) -> None:
        """Take away the messages of an earlier test."""
        with Redis.from_url(self.url) as own:
            own.flushdb()

    def give_back(self) -> None:
        """Let others have it."""
        with Redis.from_url(f"{self._base}/0") as claims:
            claims.delete(f"hub-tests:{self.number}")
