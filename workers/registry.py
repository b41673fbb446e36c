"""Which function does which kind of job."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Handler = Callable[[dict[str, Any]], None]

MODULES = (
    "workers.audit",
    "workers.conversation",
    "workers.critical",
    "workers.delivery",
    "workers.dimse",
    "workers.exams",
    "workers.patients",
    "workers.reports",
    "workers.review",
    "workers.routing",
    "workers.studies",
    "workers.uploads",
    "workers.housekeeping",
)

_handlers: dict[str, Handler] = {}
_periodic: dict[str, Periodic] = {}


@dataclass(frozen=True, slots=True)
class Periodic:
    """Work that is due again and again."""

    name: str
    every: float
    run: Callable[[], None]


class PermanentError(Exception):
    """A job that no repetition will mend; it is given to the operator at once."""


def handler(kind: str) -> Callable[[Handler], Handler]:
    """Register a function for jobs of `kind`. It may be killed at any instruction and run twice."""

    def register(function: Handler) -> Handler:
        if kind in _handlers:
            raise ValueError(f"two handlers for {kind}")
        _handlers[kind] = function
        return function

    return register


def periodic(name: str, *, every: float) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register work that the scheduler sends `every` so many seconds."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        if name in _periodic:
            raise ValueError(f"two periodic works named {name}")
        _periodic[name] = Periodic(name, every, function)
        return function

    return register


def load() -> None:
    """Import every module of handlers."""
    for name in MODULES:
        importlib.import_module(name)


def handlers() -> dict[str, Handler]:
    """All handlers by kind."""
    load()
    return dict(_handlers)


def periodics() -> dict[str, Periodic]:
    """All periodic works by name."""
    load()
    return dict(_periodic)
