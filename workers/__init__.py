"""Celery application, schedule, and one module per kind of background work."""
