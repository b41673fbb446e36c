"""Clocks that run out: leases, exams without images, identities that nobody verified."""

from __future__ import annotations

from hub.exams import registration
from hub.kit.db import database
from hub.reading import service as reading
from workers.registry import periodic


@periodic("reading.expire_leases", every=10)
def expire_leases() -> None:
    """Give exams back whose reader's page fell silent."""
    with database().writing() as session:
        reading.expire_leases(session)


@periodic("exams.alert", every=30)
def alert() -> None:
    """Tell clinics of registered exams without images, and of identities past their limit."""
    with database().writing() as session:
        registration.alert_no_images(session)
        registration.alert_unverified(session)
