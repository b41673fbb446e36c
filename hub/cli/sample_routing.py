"""The sample county's rota, routing rules and reading skills."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from hub.accounts.models import Person
from hub.cli.county import HOSPITALS
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.reading.routing import rota, service
from hub.reading.routing.models import RotaShift

DAYS = 8
RULES = {
    "rules": [
        {
            "key": "night-ct",
            "name": "夜间 CT",
            # An example to switch on: the stories of the sample are read by their clinics' own hospitals at any hour.
            "active": False,
            "modalities": ["CT"],
            "start": "20:00",
            "end": "08:00",
            "targets": [{"hospital": "H01", "weight": 2}, {"hospital": "H02", "weight": 1}],
            "answer_minutes": 20,
        },
        {
            "key": "children",
            "name": "妇幼优先的部位",
            "modalities": ["MG", "US"],
            "body_parts": ["breast", "pelvis"],
            "targets": [{"hospital": "H03", "weight": 1}, {"hospital": "H01", "weight": 0}],
        },
    ]
}


def write() -> None:
    """Rules and a rota from yesterday on, where there are none."""
    actor = Actor(kind="system", id="system", name="sample county")
    today = clock.now().astimezone(rota.zone()).date()
    with database().writing() as session:
        if service.current(session) is not None or session.scalar(select(RotaShift.id).limit(1)):
            return
        service.save(session, actor, RULES, based_on=0, note="示例规则")
        lines = []
        for code, _name, _english in HOSPITALS:
            number = int(code[1:])
            day_readers = [f"reader{number:02}a", f"reader{number:02}b"]
            for offset in range(-1, DAYS):
                day, next_day = today + timedelta(days=offset), today + timedelta(days=offset + 1)
                reader = day_readers[offset % 2]
                lines.append(rota.Line(0, reader, code, f"{day} 08:00", f"{day} 20:00"))
                lines.append(rota.Line(0, f"reviewer{number:02}", code, f"{day} 08:00", f"{day} 18:00"))
                # Two of the four hospitals are manned at night.
                if number <= 2:
                    night = day_readers[(offset + 1) % 2]
                    lines.append(rota.Line(0, night, code, f"{day} 20:00", f"{next_day} 08:00", skills="CT;DX"))
        rota.apply(session, actor, lines)
        skilled = session.scalars(select(Person).where(Person.login == "reader03b")).one_or_none()
        if skilled is not None:
            rota.set_skills(session, actor, skilled.id, "DX;US")
