"""The log: readable, and without a word of patient data."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from hub.kit.logging import configure, describe, get_logger, place_of

SECRET = "王秘密"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    out = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", out)
    configure("DEBUG", json=True)
    yield out
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


def fail(name: str) -> None:
    secret = name
    try:
        raise ValueError(f"invalid literal: {secret}")
    except ValueError as error:
        raise KeyError(secret) from error


def test_a_traceback_has_places_and_no_values(log: io.StringIO) -> None:
    try:
        fail(SECRET)
    except KeyError as error:
        get_logger("test").exception("it failed")
        logging.getLogger("uvicorn.error").setLevel("ERROR")
        logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert "in fail" in line["exception"]
        assert "KeyError" in line["exception"]
        assert "ValueError" in line["exception"]
    assert SECRET not in log.getvalue()


def test_harmless_texts_stay() -> None:
    assert describe(AttributeError("'X' has no attribute 'y'")).endswith("'y'")
    assert describe(FileNotFoundError(2, "gone", SECRET)).endswith("errno 2")
    assert SECRET not in describe(RuntimeError(SECRET))


def test_warnings_of_libraries_are_not_written(log: io.StringIO) -> None:
    warnings.warn(f"Invalid value for VR PN: {SECRET}", stacklevel=1)
    logging.getLogger("pydicom").error("cannot read %s", SECRET)
    assert SECRET not in log.getvalue()


def test_the_place_is_ours() -> None:
    from hub.kit.ids import new_secret

    try:
        new_secret("x")  # type: ignore[arg-type]
    except Exception as error:
        assert place_of(error).startswith("ids.py:")
