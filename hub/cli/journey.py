"""`hub sample` and `hub rehearse`: the sample county, and the whole journey played against a running hub.

What these two need is imported by them: it would double the time that every other command takes to start.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from hub.cli import checks
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.logging import configure
from hub.kit.settings import Settings, get_settings
from hub.sites import service as sites

if TYPE_CHECKING:
    from hub.cli.client import Login

SETTING = "sample_county"
_COMMAND_LINE = Actor(kind="system", id="system", name="command line")

_WELCOME = (
    ("tech01", "登记员/技师 (clinic)", "registers, uploads"),
    ("doctor01", "临床医生 (clinic)", "reads the reports"),
    ("reader01a", "书写医师 (hospital)", "reads and writes"),
    ("reviewer01", "审核医师 (hospital)", "reviews and signs"),
    ("expert01", "专家 (university)", "is asked"),
    ("quality01", "质控员 (hub)", "quarantine, identities"),
    ("director01", "影像中心主任 (hub)", "sees all exams"),
    ("admin01", "医共体办 (hub)", "turnaround, audit, people"),
    ("operator01", "运维 (hub)", "runs the system"),
)


def seed_people(settings: Settings) -> None:
    """Write the sample county's organisations and people into an empty hub; the first readers can sign at once.

    The other readers' certificates are made by `hub sample --fill`, while the hub already runs.
    """
    from hub.cli import county

    del settings
    county.write_people()
    county.issue_certificates(hospital="H01")


def needs_filling() -> bool:
    """Whether the sample county is here and its studies are not all entered yet."""
    if not get_settings().sample_studies or not checks.has_sample():
        return False
    with database().reading() as session:
        return not sites.county_setting(session, SETTING, {}).get("filled")


def welcome(settings: Settings) -> str:
    """What `hub run` prints when the hub is ready."""
    from hub.cli.names import PASSWORD, PIN

    lines = ["", f"  {settings.county_name_en} imaging hub  →  {settings.public_url}", ""]
    if checks.has_sample():
        lines.append(f"  Sample county: password {PASSWORD} for everybody, signing PIN {PIN}")
        lines += [f"    {login:<11} {_pad(role, 25)} {does}" for login, role, does in _WELCOME]
        if needs_filling():
            lines.append("  Its generated studies are arriving now; the hub can be used meanwhile.")
        if settings.dimse_port:
            lines.append(f"  DICOM: storescu -aec {settings.dimse_aet} -aet C01 127.0.0.1 {settings.dimse_port} FILE…")
        lines.append("  All logins: hub sample --json     The whole journey: hub rehearse [FOLDER]")
    else:
        lines.append("  Add an organisation and people: hub org add --help, hub user add --help")
    guides = Path(__file__).parents[2] / "docs"
    lines.append(f"  API: {settings.public_url}/api/docs     Guides: {guides if guides.is_dir() else 'docs/'}")
    lines += ["  Ctrl-C ends all of it.", ""]
    return "\n".join(lines)


def _pad(text: str, width: int) -> str:
    """Left-aligned in `width` columns of a terminal, where a Chinese character takes two."""
    taken = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
    return text + " " * max(0, width - taken)


def _require_sample() -> None:
    try:
        here = checks.has_sample()
    except SQLAlchemyError:
        typer.echo(
            f"Refused: there is no hub in {get_settings().data_dir}. Use the same folder and HUB_… settings as it.",
            err=True,
        )
        raise typer.Exit(1) from None
    if not here:
        typer.echo(
            "Refused: the sample county is not in this hub. `make run` (hub run --sample) makes it in an empty one.",
            err=True,
        )
        raise typer.Exit(1)


def sample_command(
    as_json: Annotated[bool, typer.Option("--json", help="Organisations and logins as JSON.")] = False,
    fill: Annotated[
        bool, typer.Option("--fill", help="Enter the generated studies into the running hub; goes on where it was.")
    ] = False,
) -> None:
    """The sample county's organisations and logins; refused where the county is not the sample."""
    from hub.cli import county

    settings = get_settings()
    configure(settings.log_level, json=settings.log_json)
    _require_sample()
    if fill:
        from hub.cli import sample

        county.issue_certificates()
        sample.fill(local_url(settings), _logins())
        with database().writing() as session:
            sites.set_county_setting(session, _COMMAND_LINE, SETTING, {"filled": True})
        return
    found = county.listing()
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    names = {org["code"]: org["name"] for org in found["organisations"]}
    for row in found["logins"]:
        typer.echo(
            f"{row['login']:<12} {row['password']:<14} {row['pin'] or '-':<7} {row['role']:<14} "
            f"{_pad(names[row['organisation']], 20)} {row['name']}"
        )


def local_url(settings: Settings) -> str:
    """Where a hub of these settings answers on this machine."""
    host = "127.0.0.1" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}"


def _logins(file: Path | None = None) -> list[Login]:
    from hub.cli import county
    from hub.cli.client import Login

    found = json.loads(file.read_text("utf-8")) if file else county.listing()
    rows = found["logins"] if isinstance(found, dict) else found
    return [Login.of(row) for row in rows]


def rehearse(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of DICOM files; left out: generated images.", show_default=False)
    ] = None,
    url: Annotated[str, typer.Option(help="Address of the hub; by default the one of the settings.")] = "",
    out: Annotated[Path, typer.Option(help="Where the PDF and the SR are saved.")] = Path("rehearsal"),
    logins: Annotated[
        Path | None, typer.Option(help="JSON as of `hub sample --json`; by default the sample county's.")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="Generate small images (without a folder).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object and nothing else.")] = False,
) -> None:
    """Play the whole journey on real images against a running hub, only through its public HTTP API.

    Images enter under fresh UIDs, so that it can be run again and again. Ends with 1 if any step fails.
    """
    from hub.cli import rehearsal

    settings = get_settings()
    configure("CRITICAL")
    if folder is not None and not folder.is_dir():
        typer.echo(f"Refused: {folder} is not a folder.", err=True)
        raise typer.Exit(2)
    if logins is None:
        _require_sample()
    out.mkdir(parents=True, exist_ok=True)
    show = (lambda _text: None) if as_json else typer.echo
    result = rehearsal.rehearse(url or local_url(settings), _logins(logins), folder, out, show=show, small=small)
    if as_json:
        typer.echo(json.dumps(result.as_dict(), ensure_ascii=False))
    raise typer.Exit(0 if result.ok else 1)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("sample")(sample_command)
    app.command("rehearse")(rehearse)
