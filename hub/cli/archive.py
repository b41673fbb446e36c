"""`hub archive …`: what lies in the object store, and the originals of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import ColumnElement, func, select

from hub.audit import service as audit
from hub.cli.accounts import COMMAND_LINE, writing
from hub.kit.db import database
from hub.studies import recompression, retired, scrubbing, stored
from hub.studies.models import Instance, Study
from storage.errors import StorageError

archive = typer.Typer(no_args_is_help=True, help="Images at rest: recompressing, proving, getting originals back.")

StudyOption = Annotated[str, typer.Option("--study", help="Study Instance UID; all studies where it is left out.")]


def _ids(study_uid: str, where: ColumnElement[bool]) -> list[str]:
    with database().reading() as session:
        if study_uid and session.scalar(select(Study.id).where(Study.uid == study_uid)) is None:
            typer.echo("There is no such study.", err=True)
            raise typer.Exit(2)
        statement = select(Study.id).where(where).order_by(Study.id)
        return list(session.scalars(statement.where(Study.uid == study_uid) if study_uid else statement))


@archive.command("recompress")
def recompress(
    study: StudyOption = "",
    grace: Annotated[
        int | None, typer.Option(help="Delete objects replaced more than so many seconds ago; else HUB_REPLACED_HOURS.")
    ] = None,
) -> None:
    """Recompress what the workers have not come to yet, whatever HUB_RECOMPRESS says."""
    moved = before = after = failed = 0
    for study_id in _ids(study, (Study.archived_revision < Study.revision) & Study.trashed_at.is_(None)):
        try:
            tally = recompression.recompress_study(study_id)
        except StorageError as error:
            typer.echo(f"Study {study_id}: {error}", err=True)
            failed += 1
            continue
        moved, before, after = moved + tally.moved, before + tally.before, after + tally.after
        failed += tally.kept.get("missing", 0) + tally.kept.get("damaged", 0)
    removed = retired.sweep(grace=None if grace is None else timedelta(seconds=grace))
    share = f", {after / before:.2f} of {before} bytes" if before else ""
    typer.echo(f"{moved} instances recompressed{share}; {removed} replaced objects deleted.")
    if failed:
        typer.echo(f"{failed} originals or studies could not be read; see the log.", err=True)
        raise typer.Exit(1)


@archive.command("restore")
def restore(study: StudyOption = "") -> None:
    """Store originals again as they were sent (needed before going back to an older version of the hub)."""
    recompressed = select(Instance.id).where(Instance.study_id == Study.id, Instance.original_syntax != "").exists()
    moved = failed = 0
    for study_id in _ids(study, recompressed):
        try:
            moved += recompression.restore_study(study_id).moved
        except StorageError as error:
            typer.echo(f"Study {study_id}: {error}", err=True)
            failed += 1
    typer.echo(f"{moved} originals brought back.")
    if failed:
        raise typer.Exit(1)


@archive.command("originals")
def originals(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the files, NUMBER.dcm; made if missing.")],
) -> None:
    """Write the files of a study as they were sent, byte for byte, each proven by its SHA-256."""
    with database().reading() as session:
        rows = list(
            session.scalars(
                select(Instance)
                .join(Study, Study.id == Instance.study_id)
                .where(Study.uid == study)
                .order_by(Instance.series_id, Instance.number, Instance.id)
            )
        )
    if not rows:
        typer.echo("There is no such study.", err=True)
        raise typer.Exit(2)
    with writing() as session:
        # Before the first file is there: images leave the hub, though nobody logged in for it.
        whose = session.scalars(select(Study).where(Study.uid == study)).one()
        audit.record(
            session,
            COMMAND_LINE,
            "images.export",
            "study",
            whose.uid,
            org_id=whose.org_id,
            patient_id=whose.patient_id,
            instances=len(rows),
        )
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for number, row in enumerate(rows, 1):
        path, draft = folder / f"{number:05}.dcm", folder / f".{number:05}.part"
        try:
            with draft.open("wb") as file:
                for piece in stored.iter_original(row):
                    file.write(piece)
            draft.replace(path)
        except StorageError as error:
            failed += 1
            typer.echo(f"{row.uid}: {error}", err=True)
        finally:
            draft.unlink(missing_ok=True)
    typer.echo(f"{len(rows) - failed} files in {folder}.")
    if failed:
        raise typer.Exit(1)


@archive.command("verify")
def verify(study: StudyOption = "") -> None:
    """Read every original (rebuilding the recompressed ones) and compare it with its SHA-256."""
    report = scrubbing.verify(_ids(study, Study.id != ""))
    for finding in report.findings:
        typer.echo(f"{finding.kind.upper()}: instance {finding.uid} in {finding.object_key}", err=True)
    typer.echo(f"{report.read} originals read, {len(report.findings)} damaged or missing.")
    if report.findings:
        raise typer.Exit(1)


@archive.command("status")
def status() -> None:
    """How many instances are recompressed, and why others are not."""
    with database().reading() as session:
        rows = session.execute(
            select(
                Instance.original_syntax,
                Instance.kept_reason,
                func.count(),
                func.sum(Instance.size + Instance.recipe_size),
                func.sum(Instance.original_size),
            ).group_by(Instance.original_syntax, Instance.kept_reason)
        ).all()
    for syntax, reason, count, size, original in sorted(rows, key=lambda row: -row[2]):
        if syntax:
            typer.echo(f"{count} recompressed from {syntax}: {size} bytes for {original}")
        else:
            typer.echo(f"{count} as they came ({reason or 'not looked at yet'}): {size} bytes")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(archive, name="archive")
