"""Drawings, each with its own revision"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

import hub.kit.db
from hub.kit.ids import new_id

revision = "0013"
down_revision = "0012"

_ID = sa.String(26)
_TIME = hub.kit.db.UtcDateTime(timezone=True)
_LONGEST = 128


def upgrade() -> None:
    """Forward. What was kept of an exam in one list becomes a row for each drawing, in the same order."""
    drawings = op.create_table(
        "exam_drawing",
        sa.Column("exam_id", _ID, nullable=False),
        sa.Column("uid", sa.String(_LONGEST), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column("saved_in", sa.String(40), nullable=False),
        sa.Column("saved_at", _TIME, nullable=False),
        sa.Column("saved_by", _ID, nullable=False),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_exam_drawing_exam_id_exam")),
        sa.PrimaryKeyConstraint("exam_id", "uid", name=op.f("pk_exam_drawing")),
    )
    kept = sa.table(
        "exam_drawings",
        *(sa.column("exam_id", _ID), sa.column("body", sa.JSON()), sa.column("revision", sa.Integer())),
        *(sa.column("saved_at", _TIME), sa.column("saved_by", _ID)),
    )
    bind = op.get_bind()
    for row in bind.execute(sa.select(kept)).all():
        found: dict[str, dict[str, Any]] = {}
        for one in row.body or []:
            if not isinstance(one, dict):
                continue
            uid = one.get("annotationUID")
            if not isinstance(uid, str) or not 0 < len(uid) <= _LONGEST or not uid.isprintable() or uid in found:
                uid = new_id()
            found[uid] = {**one, "annotationUID": uid}
        for place, (uid, body) in enumerate(found.items(), 1):
            bind.execute(
                drawings.insert().values(
                    exam_id=row.exam_id,
                    uid=uid,
                    place=place,
                    revision=row.revision,
                    body=body,
                    removed=False,
                    saved_in="",
                    saved_at=row.saved_at,
                    saved_by=row.saved_by,
                )
            )
    # Not in batch: on SQLite that would make the table anew.
    op.drop_column("exam_drawings", "body")


def downgrade() -> None:
    """One list for each exam again, without what was removed."""
    op.add_column("exam_drawings", sa.Column("body", sa.JSON(), nullable=False, server_default="[]"))
    each = sa.table(
        "exam_drawing",
        *(sa.column("exam_id", _ID), sa.column("place", sa.Integer())),
        *(sa.column("body", sa.JSON()), sa.column("removed", sa.Boolean())),
    )
    lists = sa.table("exam_drawings", sa.column("exam_id", _ID), sa.column("body", sa.JSON()))
    found: dict[str, list[Any]] = {}
    bind = op.get_bind()
    for row in bind.execute(sa.select(each).where(each.c.removed.is_(False)).order_by(each.c.place)).all():
        found.setdefault(row.exam_id, []).append(row.body)
    for exam_id, body in found.items():
        bind.execute(lists.update().where(lists.c.exam_id == exam_id).values(body=body))
    op.drop_table("exam_drawing")
