"""What must be right before the hub starts; each refusal says what to do."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from ipaddress import ip_address
from urllib.parse import urlsplit

from hub.kit.settings import Settings

# The database is imported where it is looked at: the web server loads meanwhile.


class Refusal(Exception):
    """The hub does not start; the text says why and what to do."""


def data_folder(settings: Settings) -> None:
    """The data folder can be written and has room.

    Raises:
        Refusal: It is a file, not writable, or the disk is (nearly) full.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Refusal(f"The disk of {folder} is full. Make room, or name another folder in HUB_DATA_DIR.") from None
        raise Refusal(
            f"The data folder {folder} cannot be written ({error.strerror}). "
            "Give this user the right to write there, or name another folder in HUB_DATA_DIR."
        ) from None
    free = shutil.disk_usage(folder).free // 2**20
    if free < settings.min_free_mb:
        raise Refusal(
            f"Only {free} MB are free on the disk of {folder}; the hub needs {settings.min_free_mb} MB "
            "(HUB_MIN_FREE_MB), because it may not accept images that it cannot keep. Make room first."
        )


DimseSockets = tuple[socket.socket | None, socket.socket | None]
"""The listening sockets of the DIMSE service: plain, and for TLS."""


def listen(settings: Settings) -> socket.socket:
    """The socket that the web server listens on, taken at once so that nobody else can.

    Raises:
        Refusal: Something else listens there, or the address is not this machine's.
    """
    return _listen(settings.bind, settings.http_port, "HUB_BIND", "HUB_HTTP_PORT=8001 make run")


def listen_dimse(settings: Settings) -> DimseSockets:
    """The sockets that the DIMSE service listens on: none where its port is 0, one more where it has a certificate.

    Raises:
        Refusal: As `listen`; or the files for TLS are not what they should be.
    """
    plain = secured = None
    hint = "HUB_DIMSE_PORT=11113 make run (0 leaves DIMSE out)"
    if settings.dimse_port:
        plain = _listen(settings.dimse_bind, settings.dimse_port, "HUB_DIMSE_BIND", hint)
    if settings.dimse_tls_cert:
        from hub.protocols.dimse import server

        try:
            server.tls_context(settings)
        except (OSError, ValueError) as error:
            raise Refusal(
                f"DIMSE over TLS cannot start ({type(error).__name__}): look at HUB_DIMSE_TLS_CERT, HUB_DIMSE_TLS_KEY "
                "and HUB_DIMSE_TLS_CLIENT_CA; all three are PEM files, and the key must fit the certificate."
            ) from None
        hint = "HUB_DIMSE_TLS_PORT=2763 make run"
        secured = _listen(settings.dimse_bind, settings.dimse_tls_port, "HUB_DIMSE_BIND", hint)
    return plain, secured


def _listen(address: str, port: int, setting: str, hint: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        # Two sockets may be bound to one port, but only one may listen.
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise Refusal(
                f"Port {port} is taken by another program (perhaps another hub). "
                f"Stop it, or choose another port: {hint}"
            ) from None
        raise Refusal(
            f"The hub cannot listen on {address}:{port} ({error.strerror or error}). "
            f"Set {setting} and {hint.partition('=')[0]}."
        ) from None
    return listening


def schema(settings: Settings) -> bool:
    """The database is reachable and at the code's version; True if it was migrated.

    Raises:
        Refusal: It is out of reach, or newer than the code.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from hub.migrations.upgrade import NewerDatabase, head, upgrade

    try:
        return upgrade(settings)
    except NewerDatabase as error:
        raise Refusal(
            f"The database (revision {error.revision}) is newer than this code (revision {head()}). "
            "Install the hub's newer version; nothing was changed."
        ) from None
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise Refusal(
            f"The database cannot be used ({cause}). Check HUB_DATABASE_URL and that it is running."
        ) from None


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def has_sample() -> bool:
    """Whether the sample county lives in the database."""
    from sqlalchemy import select

    from hub.kit.db import database
    from hub.sites.models import Organisation

    with database().reading() as session:
        return session.scalar(select(Organisation.id).where(Organisation.sample).limit(1)) is not None


def is_empty() -> bool:
    """Whether the database holds no organisation yet."""
    from sqlalchemy import select

    from hub.kit.db import database
    from hub.sites.models import Organisation

    with database().reading() as session:
        return session.scalar(select(Organisation.id).limit(1)) is None


def is_home(settings: Settings) -> bool:
    """Whether only this machine reaches the hub: by its own socket, and not by a proxy that brings others to it."""
    return is_loopback(settings.bind) and is_loopback(urlsplit(settings.public_url).hostname or "")


def sample_stays_home(settings: Settings) -> None:
    """The sample county's logins are public, so it may be reached on loopback alone.

    Raises:
        Refusal: The hub would listen elsewhere, or stands behind an address of others.
    """
    if is_home(settings) or not has_sample():
        return
    if is_loopback(settings.bind):
        raise Refusal(
            f"This hub holds the sample county, whose passwords everybody knows, and HUB_PUBLIC_URL is "
            f"{settings.public_url}, which others reach. Leave HUB_PUBLIC_URL out. For real use name an empty folder "
            "in HUB_DATA_DIR (or an empty database) and leave the sample county out."
        )
    raise Refusal(
        f"This hub holds the sample county, whose passwords everybody knows, and HUB_BIND is {settings.bind}. "
        "It starts on 127.0.0.1 only. For real use name an empty folder in HUB_DATA_DIR (or an empty database) "
        "and leave the sample county out."
    )
