"""`hub device …`: the machines that speak DIMSE with the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.accounts import COMMAND_LINE, writing
from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.sites import devices
from hub.sites import service as sites

device = typer.Typer(no_args_is_help=True, help="Machines that send, query and retrieve by DICOM's own protocol.")


@device.command("add")
def device_add(
    org_code: Annotated[str, typer.Option("--org", help="Code of the organisation whose it is.")],
    aet: Annotated[str, typer.Option(help="Its AE title.")],
    address: Annotated[str, typer.Option(help="IP address or network (CIDR) that it calls from.")] = "",
    certificate: Annotated[Path | None, typer.Option(help="Its TLS client certificate (PEM).")] = None,
    query: Annotated[bool, typer.Option("--query", help="It may query and retrieve: a picture archive.")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="It does not send images.")] = False,
    host: Annotated[str, typer.Option(help="Where it listens: for C-MOVE and storage commitment.")] = "",
    port: Annotated[int | None, typer.Option(help="… on which port.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="… and that it expects TLS there.")] = False,
) -> None:
    """Add a device; it may call at once."""
    if certificate is not None and not certificate.is_file():
        typer.echo(f"Refused: {certificate} is not a file.", err=True)
        raise typer.Exit(1)
    with writing() as session:
        made = devices.add(
            session,
            COMMAND_LINE,
            sites.by_code(session, org_code),
            aet=aet,
            address=address,
            certificate=certificate.read_bytes() if certificate else b"",
            stores=not no_store,
            queries=query,
            host=host,
            port=port,
            tls=tls,
        )
        typer.echo(f"{made.id}  {made.aet} may call {get_settings().dimse_aet}")


@device.command("list")
def device_list(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """All devices."""
    with database().reading() as session:
        codes = {one.id: one.code for one in sites.organisations(session)}
        found = devices.devices(session)
    at_home = devices.is_loopback(get_settings().dimse_bind)
    if as_json:
        rows = [
            {
                "id": one.id,
                "org": codes[one.org_id],
                "aet": one.aet,
                "address": one.address,
                "certificate": one.certificate,
                "stores": one.stores,
                "queries": one.queries,
                "host": one.host,
                "port": one.port,
                "tls": one.tls,
                "active": one.active,
                "accepted": one.active and (at_home or not devices.nameless(one)),
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for one in found:
        does = "+".join(name for name, wanted in (("store", one.stores), ("query", one.queries)) if wanted)
        known_by = one.address or (f"certificate {one.certificate[:12]}…" if one.certificate else "loopback only")
        target = f" → {one.host}:{one.port}" if one.host else ""
        typer.echo(f"{one.id}  {codes[one.org_id]:<8} {one.aet:<16} {does:<11} {known_by}{target}")
        if devices.nameless(one) and not at_home:
            typer.echo("    not accepted: it has neither an address nor a certificate", err=True)


@device.command("remove")
def device_remove(device_id: Annotated[str, typer.Argument(help="Id of the device, from `hub device list`.")]) -> None:
    """Forget a device; its next association is refused."""
    with writing() as session:
        devices.remove(session, COMMAND_LINE, device_id)
    typer.echo("removed")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(device, name="device")
