"""`hub audit …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hub.audit import seal

audit = typer.Typer(no_args_is_help=True, help="The audit log.")


@audit.command("verify")
def verify(
    heads: Annotated[
        Path | None, typer.Option(help="A copy of audit-heads.jsonl kept elsewhere, to compare with as well.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Read the whole log; ends with status 1 if an entry was changed, removed, reordered or cut off."""
    if heads is not None and not heads.is_file():
        typer.echo(f"{heads} is not a file.", err=True)
        raise typer.Exit(2)
    report = seal.verify(heads)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        typer.echo(
            f"{report.sealed} entries sealed, {report.unsealed} waiting to be; {report.heads} signed heads outside the "
            f"database, the newest for entry {report.newest_head or '-'}."
        )
        for warning in report.warnings:
            typer.echo(f"Note: {warning}.")
        for finding in report.findings:
            where = f" (row {finding.entry_id})" if finding.entry_id is not None else ""
            typer.echo(f"{finding.kind.upper()}: {finding.what}{where}", err=True)
        if report.further_findings:
            typer.echo(f"… and {report.further_findings} more.", err=True)
        typer.echo("The log is whole." if report.ok else "THE LOG IS NOT WHOLE.", err=not report.ok)
    if not report.ok:
        raise typer.Exit(1)


@audit.command("seal")
def seal_now() -> None:
    """Seal what waits (the worker does it every few seconds)."""
    typer.echo(f"{seal.seal_pending()} entries sealed.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(audit, name="audit")
