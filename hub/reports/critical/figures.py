"""The indicator: critical values acknowledged by both sides within ten minutes ÷ all critical values.

The national classes and the county's additions are counted apart. What was withdrawn is no critical value; how many
were is said beside it. One that is neither acknowledged nor late yet is not due. An empty denominator is no data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.reports.critical.classes import NATIONAL_MINUTES
from hub.reports.critical.models import CriticalValue
from hub.reports.critical.moment import now as moment
from hub.reports.critical.states import CriticalState

By = Literal["clinic", "hospital"]
LIMIT = timedelta(minutes=NATIONAL_MINUTES)


@dataclass(slots=True)
class Count:
    """`done` within ten minutes `of` those that are due. `late` of them came, or are, too late."""

    done: int = 0
    of: int = 0

    @property
    def share(self) -> float | None:
        """done ÷ of; None where nothing was due."""
        return self.done / self.of if self.of else None

    @property
    def late(self) -> int:
        """Those over the limit."""
        return self.of - self.done


@dataclass(slots=True)
class Figures:
    """The counts of one group; `open` are not acknowledged yet, `withdrawn` are in no count."""

    key: str = ""
    national: Count = field(default_factory=Count)
    county: Count = field(default_factory=Count)
    open: int = 0
    withdrawn: int = 0
    withdrawn_late: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a period: in all, and by group."""

    total: Figures
    groups: list[Figures]


def figures(
    session: Session,
    begins: datetime,
    ends: datetime,
    *,
    by: By = "clinic",
    clinic: str = "",
    hospital: str = "",
) -> Report:
    """Count the critical values that were discovered in a period.

    Args:
        session: A session; whoever calls has seen to it that the actor may see the county's figures.
        begins: First moment.
        ends: First moment after the period.
        by: Clinic or reading hospital.
        clinic: Only of this clinic.
        hospital: Only of this hospital.
    """
    statement = select(
        CriticalValue.org_id,
        CriticalValue.hospital_id,
        CriticalValue.national,
        CriticalValue.state,
        CriticalValue.discovered_at,
        CriticalValue.confirmed_at,
        CriticalValue.withdrawn_at,
    ).where(CriticalValue.discovered_at >= begins, CriticalValue.discovered_at < ends)
    if clinic:
        statement = statement.where(CriticalValue.org_id == clinic)
    if hospital:
        statement = statement.where(CriticalValue.hospital_id == hospital)
    now = moment(session)
    total = Figures()
    groups: dict[str, Figures] = {}
    for row in session.execute(statement):
        key = row.org_id if by == "clinic" else row.hospital_id
        group = groups.setdefault(key, Figures(key))
        _count((total, group), row.national, row.state, row.discovered_at, row.confirmed_at, row.withdrawn_at, now)
    return Report(total, sorted(groups.values(), key=lambda group: -(group.national.of + group.county.of)))


def _count(
    into: Iterable[Figures],
    national: bool,
    state: str,
    discovered: datetime,
    confirmed: datetime | None,
    withdrawn: datetime | None,
    now: datetime,
) -> None:
    limit = discovered + LIMIT
    for figure in into:
        if state == CriticalState.WITHDRAWN:
            figure.withdrawn += 1
            # Taken back after it was too late: no critical value, but worth a look.
            if (confirmed or withdrawn or now) > limit:
                figure.withdrawn_late += 1
            continue
        count = figure.national if national else figure.county
        if confirmed is None:
            figure.open += 1
            count.of += now > limit
        else:
            count.of += 1
            count.done += confirmed <= limit
