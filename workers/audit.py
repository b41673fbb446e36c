"""The audit log's sealer."""

from __future__ import annotations

from hub.audit import seal
from workers.registry import periodic


@periodic("audit.seal", every=5)
def seal_entries() -> None:
    """Chain the entries written since, and put the signed head outside the database."""
    seal.seal_pending()
