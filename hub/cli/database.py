"""`hub db …` and `hub settings`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hub.kit.settings import Settings, get_settings
from hub.migrations.upgrade import NewerDatabase, current, head, upgrade

db = typer.Typer(no_args_is_help=True, help="The database.")

_SECRETS = ("secret_key", "database_url", "broker_url", "object_store_url")


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to the code's version."""
    try:
        done = upgrade(get_settings())
    except NewerDatabase as error:
        typer.echo(
            f"The database (revision {error.revision}) is newer than this code (revision {head()}). "
            "Install the hub's newer version; nothing was changed.",
            err=True,
        )
        raise typer.Exit(3) from None
    typer.echo(f"The database is at revision {head()}" + (" now." if done else " already."))


@db.command("show")
def db_show() -> None:
    """The revisions of database and code."""
    typer.echo(json.dumps({"database": current(get_settings()), "code": head()}))


def db_show_text() -> str:
    """The revisions in a line."""
    try:
        found = current(get_settings())
    except Exception as error:
        return f"database out of reach ({type(error).__name__}); code at revision {head()}"
    return f"database at revision {found}, code at revision {head()}"


def settings_table(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Every setting: variable, present value, meaning."""
    values = get_settings()
    rows = []
    for name, field in Settings.model_fields.items():
        value = getattr(values, name)
        shown = "(set)" if name in _SECRETS and "://" not in str(value) and value else _mask(str(value))
        rows.append({"name": f"HUB_{name.upper()}", "value": shown, "meaning": field.description or ""})
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    for row in rows:
        typer.echo(f"{row['name']} = {row['value']}\n    {row['meaning']}")


def _mask(value: str) -> str:
    scheme, found, rest = value.partition("://")
    if not found or "@" not in rest:
        return value
    return f"{scheme}://…@{rest.rpartition('@')[2]}"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(db, name="db")
    app.command("settings")(settings_table)
