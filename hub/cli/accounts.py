"""`hub org …`, `hub user …`, `hub key …`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from hub.accounts import people
from hub.accounts.roles import Role
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import HubError, Invalid
from hub.kit.i18n import translate
from hub.sites import service as sites
from hub.sites.models import OrgKind

COMMAND_LINE = Actor(kind="system", id="system", name="command line")

org = typer.Typer(no_args_is_help=True, help="Organisations.")
user = typer.Typer(no_args_is_help=True, help="People.")
key = typer.Typer(no_args_is_help=True, help="API keys of organisations.")


@contextmanager
def writing() -> Iterator[Session]:
    """A writing session; a refusal is printed in words and ends with status 1."""
    try:
        with database().writing() as session:
            yield session
    except HubError as error:
        typer.echo(f"Refused: {translate(error.message, 'en')}", err=True)
        for name, text in (error.fields if isinstance(error, Invalid) else {}).items():
            typer.echo(f"  {name}: {translate(text, 'en')}", err=True)
        raise typer.Exit(1) from None


@org.command("add")
def org_add(
    code: Annotated[str, typer.Option(help="Short code in upper case; part of report numbers.")],
    name: Annotated[str, typer.Option(help="Chinese name.")],
    kind: Annotated[OrgKind, typer.Option(help="What it is to the county.")],
    name_en: Annotated[str, typer.Option(help="English name.")] = "",
    phone: Annotated[str, typer.Option(help="Telephone.")] = "",
    reads_for: Annotated[list[str] | None, typer.Option(help="Code of a clinic it reads for; may be repeated.")] = None,
    single_signature: Annotated[bool, typer.Option(help="A reviewer may sign what he wrote himself.")] = False,
) -> None:
    """Add an organisation."""
    with writing() as session:
        made = sites.add_organisation(
            session,
            COMMAND_LINE,
            code=code,
            name=name,
            kind=kind.value,
            name_en=name_en,
            phone=phone,
            reads_for=reads_for or [],
            double_signature=not single_signature,
        )
        typer.echo(f"{made.code}: {made.name} ({made.kind})")


@org.command("list")
def org_list(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """All organisations."""
    with database().reading() as session:
        found = sites.organisations(session)
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {
                        "code": o.code,
                        "name": o.name,
                        "name_en": o.name_en,
                        "kind": o.kind,
                        "phone": o.phone,
                        "issuer": o.issuer,
                        "active": o.active,
                        "sample": o.sample,
                    }
                    for o in found
                ],
                ensure_ascii=False,
            )
        )
        return
    for o in found:
        typer.echo(f"{o.code:<8} {o.kind:<9} {o.name}{'' if o.active else ' (inactive)'}")


@user.command("add")
def user_add(
    login: Annotated[str, typer.Option(help="Login, in lower case.")],
    name: Annotated[str, typer.Option(help="Name.")],
    org_code: Annotated[str, typer.Option("--org", help="Code of the organisation.")],
    role: Annotated[list[Role], typer.Option(help="Role; may be repeated.")],
    title: Annotated[str, typer.Option(help="Professional title.")] = "",
    password: Annotated[str | None, typer.Option(help="First password; made where it is left out.")] = None,
) -> None:
    """Add a person; prints the first password once."""
    with writing() as session:
        _person, first = people.add_person(
            session,
            COMMAND_LINE,
            org=sites.by_code(session, org_code),
            login=login,
            name=name,
            roles=[one.value for one in role],
            title=title,
            password=password,
        )
    typer.echo(f"login {login}, first password: {first}")


@user.command("list")
def user_list(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Everybody, by organisation."""
    with database().reading() as session:
        found = people.everybody(session)
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {
                        "login": person.login,
                        "name": person.name,
                        "org": where.code,
                        "roles": person.roles,
                        "active": person.active,
                        "second_factor": person.totp_secret is not None,
                        "must_change_password": person.must_change_password,
                    }
                    for person, where in found
                ],
                ensure_ascii=False,
            )
        )
        return
    for person, where in found:
        state = "" if person.active else " (inactive)"
        typer.echo(f"{where.code:<8} {person.login:<24} {','.join(person.roles):<30} {person.name}{state}")


@user.command("reset-password")
def user_reset_password(login: Annotated[str, typer.Option(help="Login of the person.")]) -> None:
    """Give a fresh first password, printed this once; ends the sessions and turns the second factor off."""
    with writing() as session:
        first = people.reset_password(session, COMMAND_LINE, people.by_login(session, login).id)
    typer.echo(f"login {login}, first password: {first}")


@user.command("deactivate")
def user_deactivate(login: Annotated[str, typer.Option(help="Login of the person.")]) -> None:
    """Shut somebody out at once."""
    with writing() as session:
        people.change_person(session, COMMAND_LINE, people.by_login(session, login).id, {"active": False})
    typer.echo(f"{login} is inactive; all sessions ended")


@key.command("list")
def key_list(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """All API keys, without the keys themselves."""
    with database().reading() as session:
        codes = {one.id: one.code for one in sites.organisations(session)}
        found = sites.keys(session)
    if as_json:
        rows = [
            {
                "id": one.id,
                "org": codes[one.org_id],
                "label": one.label,
                "begins": one.prefix,
                "scopes": one.scopes,
                "revoked": one.revoked_at is not None,
                "expires_at": one.expires_at.isoformat() if one.expires_at else None,
                "last_used_at": one.last_used_at.isoformat() if one.last_used_at else None,
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for one in found:
        state = " (revoked)" if one.revoked_at is not None else ""
        typer.echo(f"{one.id}  {codes[one.org_id]:<8} {one.prefix}…  {','.join(one.scopes)}  {one.label}{state}")


@key.command("revoke")
def key_revoke(key_id: Annotated[str, typer.Argument(help="Id of the key, from `hub key list`.")]) -> None:
    """End a key at once."""
    with writing() as session:
        sites.revoke_key(session, COMMAND_LINE, key_id)
    typer.echo("revoked")


@key.command("add")
def key_add(
    org_code: Annotated[str, typer.Option("--org", help="Code of the organisation.")],
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scope: Annotated[list[str] | None, typer.Option(help="stow, retrieve, register, report; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Make an API key; it is printed this once and kept only as a hash."""
    with writing() as session:
        made, token = sites.add_key(
            session, COMMAND_LINE, sites.by_code(session, org_code), label=label, scopes=scope or None
        )
        found = {"id": made.id, "org": org_code, "scopes": made.scopes, "key": token}
    typer.echo(json.dumps(found) if as_json else token)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(org, name="org")
    app.add_typer(user, name="user")
    app.add_typer(key, name="key")
