"""Is every dependency there? One list of checks for `/readyz`, the operator's page and `hub doctor`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kombu.connection import Connection
from sqlalchemy import String, func, select, text
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit import clock, jobs
from hub.kit.db import Base, database
from hub.kit.i18n import Message, _, translate
from hub.kit.objects import object_store
from hub.kit.settings import Settings
from storage.errors import StorageError

WORKER_SILENT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Check:
    """How one dependency is.

    Attributes:
        name: What was looked at.
        ok: Whether it works.
        detail: What was found.
        advice: What to do where it does not work.
        seconds: How long the look took.
    """

    name: str
    ok: bool
    detail: Message | str
    advice: Message | str = ""
    seconds: float = 0.0


def check_database(settings: Settings) -> Check:
    """The database answers a query."""
    try:
        with database().reading() as session:
            session.execute(text("SELECT 1"))
            kind = session.get_bind().dialect.name
    except Exception as error:
        return Check(
            "database",
            False,
            type(error).__name__,
            _("请启动数据库或改正 HUB_DATABASE_URL,然后执行 hub db upgrade"),
        )
    return Check("database", True, kind)


def check_objects(settings: Settings) -> Check:
    """The object store takes, gives back and deletes a probe."""
    try:
        store = object_store()
        store.check()
        free = store.free_bytes()
    except (StorageError, OSError, ValueError) as error:
        return Check(
            "objects",
            False,
            type(error).__name__,
            _("请启动对象存储或改正 HUB_OBJECT_STORE_URL(地址、密钥、桶)"),
        )
    if free is not None and free < settings.min_free_mb << 20:
        return Check(
            "objects",
            False,
            _("剩余 {n} MB").format(n=free >> 20),
            _("请清理空间:剩余不足 HUB_MIN_FREE_MB 时不再接收新图像"),
        )
    return Check("objects", True, _("可写") if free is None else _("可写,剩余 {n} GB").format(n=free >> 30))


def check_broker(settings: Settings) -> Check:
    """The broker accepts a connection."""
    try:
        with Connection(settings.broker_url, connect_timeout=3) as connection:  # type: ignore[no-untyped-call]
            connection.ensure_connection(max_retries=1, timeout=3)
    except Exception as error:
        return Check(
            "broker",
            False,
            type(error).__name__,
            _("请启动 Redis/Valkey 或改正 HUB_BROKER_URL;任务已存入数据库,不会丢失"),
        )
    return Check("broker", True, settings.broker_url.partition(":")[0])


def check_folder(settings: Settings) -> Check:
    """The data folder has room."""
    free = shutil.disk_usage(settings.data_dir).free >> 20
    ok = free >= settings.min_free_mb
    return Check("folder", ok, _("剩余 {n} MB").format(n=free), "" if ok else _("请清理 HUB_DATA_DIR 所在的磁盘"))


def check_worker(settings: Settings) -> Check:
    """A worker did something within the last minute (the schedule gives it work every few seconds)."""
    last = last_beat()
    if last is None or clock.now() - last > WORKER_SILENT:
        seen = _("从未运行") if last is None else _("上次运行 {at}").format(at=last.isoformat(timespec="seconds"))
        return Check(
            "worker",
            False,
            seen,
            _("请启动 hub worker 和 hub scheduler(hub run 会一起启动);已上传的图像不受影响"),
        )
    return Check("worker", True, _("运行中"))


def check_jobs(settings: Settings) -> Check:
    """No job was given up, none waits for long."""
    with database().reading() as session:
        failed = session.scalar(select(func.count()).where(jobs.Job.state == jobs.FAILED)) or 0
        oldest = session.scalar(select(func.min(jobs.Job.run_after)).where(jobs.Job.state == jobs.QUEUED))
    late = (clock.now() - oldest).total_seconds() if oldest else 0.0
    if failed or late > 300:
        return Check(
            "jobs",
            False,
            _("已放弃 {failed} 个,最早的等待 {n} 秒").format(failed=failed, n=max(0, int(late))),
            _("系统页列出了错误种类;hub doctor --retry 可全部重试"),
        )
    return Check("jobs", True, _("没有积压") if late <= 0 else _("最早的等待 {n} 秒").format(n=int(late)))


def check_originals(settings: Settings) -> Check:
    """No stored original was found damaged or missing."""
    with database().reading() as session:
        found = session.scalar(select(func.count()).where(Concern.kind.in_(("damaged", "missing")))) or 0
    if found:
        return Check(
            "originals",
            False,
            _("{n} 个损坏或丢失").format(n=found),
            _("请从备份恢复这些对象,然后执行 hub archive verify;日志中有它们的位置"),
        )
    return Check("originals", True, _("没有发现损坏"))


READINESS: tuple[Callable[[Settings], Check], ...] = (check_database, check_objects)
ALL: tuple[Callable[[Settings], Check], ...] = (
    check_folder,
    check_database,
    check_objects,
    check_broker,
    check_worker,
    check_jobs,
    check_originals,
)


def run(settings: Settings, checks: tuple[Callable[[Settings], Check], ...] = ALL) -> list[Check]:
    """Run `checks`; one that raises has failed."""
    results = []
    for check in checks:
        started = time.perf_counter()
        try:
            found = check(settings)
        except Exception as error:
            found = Check(check.__name__.removeprefix("check_"), False, type(error).__name__)
        results.append(Check(found.name, found.ok, found.detail, found.advice, time.perf_counter() - started))
    return results


def as_json(checks: list[Check]) -> dict[str, Any]:
    """What `/readyz` answers."""
    return {
        "ok": all(check.ok for check in checks),
        "checks": {check.name: {"ok": check.ok, "detail": translate(check.detail, "en")} for check in checks},
    }


class Concern(Base):
    """Something that an operator must look at; the row goes when it is mended."""

    __tablename__ = "concern"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    at: Mapped[datetime]


class Beat(Base):
    """When a worker was last seen at work: one row."""

    __tablename__ = "worker_beat"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]


def beat() -> None:
    """Note that a worker is alive."""
    with database().writing() as session:
        session.merge(Beat(id=1, at=clock.now()))


def last_beat() -> datetime | None:
    """When a worker was last alive, or None."""
    with database().reading() as session:
        row = session.get(Beat, 1)
        return row.at if row else None
