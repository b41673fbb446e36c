"""What every test would otherwise make again: statements compiled for its own engine, routes analysed for its own app.

A test gets an empty hub of its own; the compiled SQL and the routes are the program's and are made once a process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url

from hub.kit import db
from hub.kit.settings import Settings

_make_engine: Callable[..., Engine] = db.make_engine
_engines: dict[str, Engine] = {}
_current: list[str] = []
"""The address that connections go to now."""
_routes: list[Any] = []


def one_engine(url: str) -> Callable[..., Engine]:
    """A `make_engine` whose engine for `url` is the one that earlier tests used, connecting to `url` from now on.

    SQLAlchemy keeps compiled statements by engine. The engine must be disposed of between two tests, which
    `reset_database` does; any other database gets an engine of its own.
    """
    _current[:] = [url]

    def make(settings: Settings, *more: Any, **options: Any) -> Engine:
        if settings.database_url != url:
            return _make_engine(settings, *more, **options)
        key = repr((make_url(url).drivername, more, options))
        if key not in _engines:
            _engines[key] = _make_engine(settings, *more, **options)
            _follow(_engines[key])
        return _engines[key]

    return make


def _follow(engine: Engine) -> None:
    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        place, more = dialect.create_connect_args(make_url(_current[0]))
        arguments[:] = place
        options.update(more)


def with_known_routes(app: FastAPI) -> FastAPI:
    """The application with the routers that an earlier one has analysed; what is mounted stays its own."""
    included = [n for n, route in enumerate(app.router.routes) if hasattr(route, "original_router")]
    if not _routes:
        _routes.extend(app.router.routes[n] for n in included)
    for n, known in zip(included, _routes, strict=True):
        assert app.router.routes[n].original_router is known.original_router
        app.router.routes[n] = known
    return app
