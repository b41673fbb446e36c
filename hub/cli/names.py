"""The sample county's two public secrets."""

from __future__ import annotations

# The logins exist only while the hub listens on loopback (hub.cli.checks.sample_stays_home).
PASSWORD = "sample-county"  # noqa: S105
PIN = "271828"
