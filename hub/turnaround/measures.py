"""What is counted, on columns alone: stages, medians, shares, the national indicator.

Rules that hold everywhere: an empty denominator is None ("no data"), never 0 or 1; whoever is unfinished and already
over his limit stays in the denominator; percentiles are interpolated as Excel's PERCENTILE.INC does, so that an export
counted again there gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hub.exams.limits import STAGES, Limits
from hub.exams.states import State
from hub.kit.i18n import Message, _
from hub.turnaround.frame import Frame, Mask, Seconds, Text

Places = npt.NDArray[np.intp]
Chosen = Mask | Places

MEASURES: dict[str, Message] = {**STAGES, "report": _("报告全程")}
"""The stages in order, and the whole way from fully received to signed that the limit of the class is about."""

STAGE_NOTES: dict[str, Message] = {
    "upload": _("检查开始 → 接收完整"),
    "verify": _("发现不符 → 核对完成"),
    "wait": _("接收完整 → 开始书写"),
    "read": _("开始书写 → 提交"),
    "review": _("提交 → 签发"),
    "return": _("签发 → 送达卫生院"),
    "seen": _("送达卫生院 → 临床查看"),
    "report": _("接收完整 → 签发,按各类时限"),
}

_WITH_AUTHOR = [
    state.value for state in (State.TO_READ, State.READING, State.REJECTED, State.HISTORY_REQUESTED, State.CONSULTATION)
]
_NATIONAL_MODALITIES = ["CT", "DX", "RF"]


@dataclass(frozen=True)
class Stage:
    """One stage of every exam.

    `seconds` of those that finished it (NaN otherwise); `since` where those that are in it began (NaN otherwise);
    `within` and `late`: judged inside or over the limit. Who is in neither is not due yet, or not in the stage.
    """

    seconds: Seconds
    since: Seconds
    within: Mask
    late: Mask


@dataclass(frozen=True, slots=True)
class Cell:
    """Numbers of one group in one stage. `late_open` of the `due` are unfinished and over the limit."""

    n: int
    median: float | None
    p90: float | None
    total: float
    due: int
    within: int
    late_open: int

    @property
    def share(self) -> float | None:
        """Within the limit ÷ due; None where nothing was due."""
        return self.within / self.due if self.due else None


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole; `share` is None where the whole is empty."""

    done: int
    of: int

    @property
    def share(self) -> float | None:
        """done ÷ of."""
        return self.done / self.of if self.of else None


def _first(*clocks: Seconds) -> Seconds:
    found = clocks[0].copy()
    for other in clocks[1:]:
        found = np.where(np.isnan(found), other, found)
    return found


def spans(frame: Frame) -> dict[str, tuple[Seconds, Seconds, Seconds]]:
    """Start, end and pause (seconds to take off) of every stage; NaN where it has not started or not ended.

    - Upload runs from the exam start, so that no delay of the line hides in the reading time; it ends when images and
      registration disagree, because from then on somebody's decision is waited for, not the line.
    - Rework after a rejection is the author's time: the review counts from the last submission.
    - A preliminary report ends the writing like a submission.
    """
    nan = np.full(len(frame), np.nan)
    received, since = frame.received_at, frame.verify_since
    early = ~np.isnan(since) & (np.isnan(received) | (since < received))
    arrived = np.where(early, since, received)
    begun = np.where(np.isnan(frame.exam_at) & ~np.isnan(arrived), frame.registered_at, frame.exam_at)
    decided = np.where(frame.verified_at >= since, frame.verified_at, np.where(received >= since, received, np.nan))
    # Doubts that came up after the exam had entered the queue interrupt the wait for a reader.
    pause = np.where((since >= received) & (decided <= frame.reading_at), decided - since, 0.0)
    author = np.isin(frame.state, _WITH_AUTHOR)
    handed = np.where(author, np.nan, _first(frame.submitted_at, frame.preliminary_at))
    written = np.where(author, np.nan, _first(handed, frame.signed_at))
    zero = np.zeros(len(frame))
    return {
        "upload": (begun, arrived, zero),
        "verify": (since, np.where(np.isnan(since), nan, decided), zero),
        "wait": (received, frame.reading_at, pause),
        # While the clinic owes an answer the reader's clock stands still; the pause is shown apart.
        "read": (frame.reading_at, written, frame.paused),
        "review": (handed, frame.signed_at, zero),
        "return": (frame.signed_at, frame.returned_at, zero),
        "seen": (frame.returned_at, frame.seen_at, zero),
        "report": (received, frame.signed_at, zero),
    }


def stages(frame: Frame, limits: Limits) -> dict[str, Stage]:
    """Every stage of every exam, judged by the county's limits; `report` by each exam's own due time."""
    alive = np.isnan(frame.ended_at)
    found: dict[str, Stage] = {}
    for name, (start, end, pause) in spans(frame).items():
        done = ~np.isnan(start) & ~np.isnan(end)
        # A clock that runs a little ahead must not make a negative time.
        seconds = np.where(done, np.maximum(end - start - pause, 0.0), np.nan)
        running = ~np.isnan(start) & np.isnan(end) & alive
        if name == "report":
            due = ~np.isnan(frame.due_at)
            within = done & due & (end <= frame.due_at)
            late = due & ((done & (end > frame.due_at)) | (running & (frame.now > frame.due_at)))
        else:
            most = limits.stages[name] * 60.0
            within = done & (seconds <= most)
            late = (done & (seconds > most)) | (running & (frame.now - start - pause > most))
        found[name] = Stage(seconds, np.where(running, start, np.nan), within, late)
    return found


def cell(stage: Stage, chosen: Chosen | None = None) -> Cell:
    """The numbers of the chosen exams in one stage."""
    seconds, within, late, since = stage.seconds, stage.within, stage.late, stage.since
    if chosen is not None:
        seconds, within, late, since = seconds[chosen], within[chosen], late[chosen], since[chosen]
    done = seconds[~np.isnan(seconds)]
    median, p90 = (float(value) for value in np.percentile(done, [50, 90])) if done.size else (None, None)
    return Cell(
        n=int(done.size),
        median=median,
        p90=p90,
        total=float(done.sum()),
        due=int(within.sum() + late.sum()),
        within=int(within.sum()),
        late_open=int((late & ~np.isnan(since)).sum()),
    )


def national(frame: Frame, limits: Limits) -> tuple[Mask, Mask]:
    """The national indicator: emergency X-ray and CT formally issued in time from exam start, and all that are due.

    Ordered by an emergency department, or, where a clinic has none, registered as an emergency (the county's rule).
    Due is what is issued, or unfinished and over the limit.
    """
    counted = (
        np.isin(frame.modality, _NATIONAL_MODALITIES)
        & ((frame.encounter == "emergency") | (frame.priority == "emergency"))
        & ~np.isnan(frame.exam_at)
    )
    most = limits.national_minutes * 60.0
    signed = ~np.isnan(frame.signed_at)
    done = counted & signed & (frame.signed_at - frame.exam_at <= most)
    overdue = counted & ~signed & np.isnan(frame.ended_at) & (frame.now - frame.exam_at > most)
    return done, (counted & signed) | overdue


def returns(frame: Frame) -> tuple[Mask, Mask]:
    """The return rate: exams that a reader returned for new images, of those whose images were received."""
    received = ~np.isnan(frame.received_at)
    return frame.sent_back & received, received


def share(masks: tuple[Mask, Mask], chosen: Chosen | None = None) -> Share:
    """done ÷ of, among the chosen."""
    done, of = masks if chosen is None else (masks[0][chosen], masks[1][chosen])
    return Share(int(done.sum()), int(of.sum()))


def groups(keys: Text) -> Mapping[str, Places]:
    """The places of each distinct key, the largest group first."""
    names, inverse, counts = np.unique(keys.astype(str), return_inverse=True, return_counts=True)
    places = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    order = np.argsort(-counts, kind="stable")
    return {str(names[index]): places[index] for index in order}
