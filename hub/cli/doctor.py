"""`hub doctor`: checks every dependency and says what to do."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hub.cli.database import db_show_text
from hub.kit import health, jobs
from hub.kit.db import database
from hub.kit.i18n import translate
from hub.kit.settings import get_settings


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Give jobs that were given up another try.")] = False,
) -> None:
    """Check every dependency and say what to do. Ends with 1 where something is wrong."""
    settings = get_settings()
    if retry:
        with database().writing() as session:
            typer.echo(f"{jobs.retry_failed(session)} job(s) queued again.", err=as_json)
    checks = health.run(settings)
    good = all(check.ok for check in checks)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "ok": good,
                    "checks": [
                        {
                            "name": c.name,
                            "ok": c.ok,
                            "detail": translate(c.detail, "en"),
                            "advice": translate(c.advice, "en"),
                            "seconds": round(c.seconds, 3),
                        }
                        for c in checks
                    ],
                },
                ensure_ascii=False,
            )
        )
    else:
        typer.echo(db_show_text())
        for check in checks:
            typer.echo(f"{'ok  ' if check.ok else 'BAD '} {check.name:<9} {translate(check.detail, 'en')}")
            if check.advice:
                typer.echo(f"     → {translate(check.advice, 'en')}")
    raise typer.Exit(0 if good else 1)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(doctor)
