"""What the JSON API of turnaround says."""

from __future__ import annotations

from datetime import date, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from hub.exams import calendar, limits
from hub.kit.i18n import Message, translate
from hub.turnaround.measures import Cell, Share
from hub.turnaround.service import Board, By, Group, Line, Names, Page, Summary, Wait


class ShareOut(BaseModel):
    """A part of a whole; `share` is null where the whole is empty."""

    done: int = Field(examples=[19])
    of: int = Field(examples=[20])
    share: float | None = Field(examples=[0.95])

    @classmethod
    def of_share(cls, share: Share) -> Self:
        """From its service value."""
        return cls(done=share.done, of=share.of, share=share.share)


class LineOut(BaseModel):
    """One exam by its clocks. `seconds` of a stage in `running` counts until now."""

    id: str
    accession: str = Field(examples=["2026112100001"])
    state: str = Field(examples=["to_read"])
    clinic: str = Field(examples=["银坑镇卫生院"])
    hospital: str
    author: str
    reviewer: str
    modality: str = Field(examples=["CT"])
    priority: str = Field(examples=["emergency"])
    limit_class: str = Field(examples=["emergency_ct"])
    exam_at_source: str = Field(examples=["modality"])
    clocks: dict[str, datetime | None]
    seconds: dict[str, float | None]
    late: list[str] = Field(description="Stages over their limit.")
    running: list[str] = Field(description="Stages that the exam is in.")

    @classmethod
    def of_line(cls, line: Line, names: Names) -> Self:
        """From its service value."""
        return cls(
            id=line.id,
            accession=line.accession,
            state=line.state.value,
            clinic=_say(names.org(line.clinic)),
            hospital=_say(names.org(line.hospital)),
            author=_say(names.person(line.author)) if line.author else "",
            reviewer=_say(names.person(line.reviewer)) if line.reviewer else "",
            modality=line.modality,
            priority=line.priority,
            limit_class=line.klass,
            exam_at_source=line.source,
            clocks=line.clocks,
            seconds=line.seconds,
            late=[name for name, late in line.late.items() if late],
            running=[name for name, running in line.running.items() if running],
        )


class WaitingOut(BaseModel):
    """Exams that are in one state now."""

    state: str
    count: int
    overdue: int
    since: datetime | None


class HospitalOut(BaseModel):
    """What lies at one reading hospital now."""

    id: str
    name: str
    to_read: int
    reading: int
    to_review: int
    overdue: int
    oldest: datetime | None


class TodayOut(BaseModel):
    """Today's board."""

    at: datetime
    unfinished: int
    overdue: int
    due_within_30_minutes: int
    registered_today: int
    signed_today: int
    returned_unseen: int
    no_images: int
    timely: ShareOut
    national: ShareOut
    waiting: list[WaitingOut]
    hospitals: list[HospitalOut]
    overdue_exams: list[LineOut]

    @classmethod
    def of_board(cls, board: Board, names: Names) -> Self:
        """From its service value."""
        return cls(
            at=board.at,
            unfinished=board.unfinished,
            overdue=board.overdue,
            due_within_30_minutes=board.soon,
            registered_today=board.registered_today,
            signed_today=board.signed_today,
            returned_unseen=board.returned_unseen,
            no_images=board.no_images,
            timely=ShareOut.of_share(board.timely),
            national=ShareOut.of_share(board.national),
            waiting=[
                WaitingOut(state=row.state.value, count=row.count, overdue=row.overdue, since=row.since)
                for row in board.waiting
            ],
            hospitals=[
                HospitalOut(
                    id=load.hospital,
                    name=_say(names.org(load.hospital)),
                    to_read=load.to_read,
                    reading=load.reading,
                    to_review=load.to_review,
                    overdue=load.overdue,
                    oldest=load.oldest,
                )
                for load in board.hospitals
            ],
            overdue_exams=[LineOut.of_line(line, names) for line in board.overdue_lines],
        )


class CellOut(BaseModel):
    """One stage of one group; times in seconds, null where there is no data."""

    n: int = Field(examples=[120])
    median: float | None = Field(examples=[1260.0])
    p90: float | None = Field(examples=[3480.0])
    total: float = Field(description="Sum in seconds.")
    due: int = Field(description="Finished, or unfinished and over the limit.")
    within: int
    late_open: int
    share: float | None = Field(description="within ÷ due; null where nothing was due.", examples=[0.93])

    @classmethod
    def of_cell(cls, cell: Cell) -> Self:
        """From its service value."""
        return cls(
            n=cell.n,
            median=cell.median,
            p90=cell.p90,
            total=cell.total,
            due=cell.due,
            within=cell.within,
            late_open=cell.late_open,
            share=cell.share,
        )


class GroupOut(BaseModel):
    """One group of the summary."""

    key: str
    label: str
    exams: int
    stages: dict[str, CellOut]
    national: ShareOut
    returns: ShareOut = Field(description="Returned for new images ÷ received.")

    @classmethod
    def of_group(cls, group: Group, label: Message | str) -> Self:
        """From its service value."""
        return cls(
            key=group.key,
            label=_say(label),
            exams=group.exams,
            stages={name: CellOut.of_cell(cell) for name, cell in group.cells.items()},
            national=ShareOut.of_share(group.national),
            returns=ShareOut.of_share(group.returns),
        )


class SummaryOut(BaseModel):
    """Numbers of a period. `marked` exams have a start that is not the modality's clock."""

    model_config = ConfigDict(populate_by_name=True)

    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    by: By
    marked: int
    total: GroupOut
    groups: list[GroupOut]

    @classmethod
    def of_summary(cls, summary: Summary, names: Names) -> Self:
        """From its service value."""
        return cls(
            first=summary.filters.first,
            last=summary.filters.last,
            by=summary.by,
            marked=summary.marked,
            total=GroupOut.of_group(summary.total, ""),
            groups=[GroupOut.of_group(group, names.label(summary.by, group.key)) for group in summary.groups],
        )


class WaitOut(BaseModel):
    """How often and how long, in sum, exams stood in a state."""

    state: str
    times: int
    seconds: float

    @classmethod
    def of_wait(cls, wait: Wait) -> Self:
        """From its service value."""
        return cls(state=wait.state.value, times=wait.times, seconds=wait.seconds)


class ExamsOut(BaseModel):
    """A page of exams, the longest in the chosen stage first."""

    total: int
    page: int
    pages: int
    exams: list[LineOut]

    @classmethod
    def of_page(cls, page: Page, names: Names) -> Self:
        """From its service value."""
        return cls(
            total=page.total,
            page=page.page,
            pages=page.pages,
            exams=[LineOut.of_line(line, names) for line in page.lines],
        )


class LimitIn(BaseModel):
    """The limit of one class."""

    model_config = ConfigDict(extra="forbid")

    minutes: int = Field(examples=[60])
    clock: limits.Clock
    working: bool


class LimitsIn(BaseModel):
    """The county's limits; what is not named keeps its default."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [limits.to_json(limits.DEFAULTS)]},
    )

    classes: dict[str, LimitIn] = Field(default_factory=dict)
    stages: dict[str, int] = Field(default_factory=dict)
    national_minutes: int = limits.DEFAULTS.national_minutes
    national_target: float = limits.DEFAULTS.national_target
    pauses: bool = Field(True, description="The readers' clock stands still while a clinic owes an answer.")


class CalendarIn(BaseModel):
    """The working calendar: hours as `[["08:00", "12:00"], …]`, Monday first."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [calendar.DEFAULT]})

    week: list[list[list[str]]]
    holidays: list[str] = Field(default_factory=list)
    make_up: list[str] = Field(default_factory=list)
    make_up_hours: list[list[str]] = Field(default_factory=list)


def _say(text: Message | str) -> str:
    return translate(text)


class QualityTargetsIn(BaseModel):
    """Targets of the county's quality rates, per cent: at least `grade_a`, at most `reject` and `artefact`."""

    grade_a: float
    reject: float
    artefact: float
