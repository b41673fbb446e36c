"""What must be right before the hub starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hub.cli import checks
from hub.kit.db import database
from hub.kit.settings import Settings
from hub.sites.models import Organisation

if TYPE_CHECKING:
    from support.world import World


@pytest.mark.parametrize(
    ("bind", "public_url", "home"),
    [
        ("127.0.0.1", "", True),
        ("::1", "", True),
        ("localhost", "http://localhost:8000", True),
        ("127.0.0.1", "http://[::1]:8000/", True),
        ("0.0.0.0", "", False),
        ("::", "", False),
        ("192.0.2.7", "", False),
        ("127.0.0.1", "https://imaging.example.org", False),
        ("127.0.0.1", "http://192.0.2.7:8000", False),
    ],
)
def test_public_logins_are_for_this_machine_alone(world: World, bind: str, public_url: str, home: bool) -> None:
    settings = Settings(bind=bind, public_url=public_url)
    checks.sample_stays_home(settings)
    with database().writing() as session:
        session.get_one(Organisation, world.orgs["C01"].id).sample = True
    if home:
        checks.sample_stays_home(settings)
    else:
        with pytest.raises(checks.Refusal, match="sample county"):
            checks.sample_stays_home(settings)
