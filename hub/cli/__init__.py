"""The `hub` command."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

MODULES = ("processes", "database", "accounts", "devices", "audit", "archive", "doctor", "journey")
AT_ONCE = dict.fromkeys(("run", "serve", "dimse", "worker", "scheduler"), "processes")
"""Commands that start processes: they load no more than they need, so that the hub is up soon."""


def make_app(*modules: str) -> typer.Typer:
    """The command line of `modules` (all of them where none is named)."""
    import typer

    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="The county imaging hub. Settings are HUB_… variables; see `hub settings`.",
    )
    app.callback()(_group)
    for name in modules or MODULES:
        importlib.import_module(f"hub.cli.{name}").register(app)
    return app


def _group() -> None:
    pass


def __getattr__(name: str) -> Any:
    if name == "app":
        return make_app()
    raise AttributeError(name)


def main() -> None:
    """Entry point of the `hub` script."""
    wanted = AT_ONCE.get(sys.argv[1]) if len(sys.argv) > 1 else None
    make_app(*([wanted] if wanted else []))()
