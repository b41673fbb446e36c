"""Settings of the county and the rules of organisations that no page reaches."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from hub.kit import clock
from hub.kit.db import database
from hub.kit.errors import Invalid
from hub.sites import service as sites

if TYPE_CHECKING:
    from support.world import World


def test_a_setting_or_its_default(world: World) -> None:
    actor = world.actor("administrator")
    default = {"minutes": 30}
    with database().writing() as session:
        found = sites.county_setting(session, "limits", default)
        found["minutes"] = 99
        assert default == {"minutes": 30}
        for minutes in (45, 60):
            sites.set_county_setting(session, actor, "limits", {"minutes": minutes})
    with database().reading() as session:
        assert sites.county_setting(session, "limits", default) == {"minutes": 60}


def test_issuer_qualifies_the_clinics_patient_numbers(world: World) -> None:
    with database().writing() as session:
        org = sites.add_organisation(session, world.actor("administrator"), code="yk", name="银坑", kind="clinic")
        assert org.issuer.endswith(".YK")


def test_a_key_never_begins_expired(world: World) -> None:
    with database().writing() as session, pytest.raises(Invalid):
        sites.add_key(
            session,
            world.actor("administrator"),
            world.orgs["C01"],
            expires_at=clock.now() - timedelta(seconds=1),
        )


def test_agreeing_again_changes_the_rank_only(world: World) -> None:
    actor = world.actor("administrator")
    with database().writing() as session:
        clinic, hospital = sites.by_code(session, "c01"), sites.by_code(session, "H01")
        sites.agree(session, actor, clinic=clinic, hospital=hospital, rank=3)
        session.flush()
        assert sites.readers(session)[clinic.id] == [hospital.id]
        sites.disagree(session, actor, clinic=clinic, hospital=hospital)
        sites.disagree(session, actor, clinic=clinic, hospital=hospital)
        session.flush()
        assert clinic.id not in sites.readers(session)
