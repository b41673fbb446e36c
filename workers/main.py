"""What `celery -A workers.main` loads."""

from __future__ import annotations

from workers.app import make_app

app = make_app()
