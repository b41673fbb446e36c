"""Short ways to what waits"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_LATE = "late_images_at IS NOT NULL"
_OPEN = "state NOT IN ('cancelled', 'retake', 'returned', 'seen', 'signed', 'void')"
_AMENDING = "kind <> 'original' AND state IN ('draft', 'submitted')"
_TALKED = "thread_last IS NOT NULL"

# name, table, columns, which rows (None: all).
_NEW: tuple[tuple[str, str, list[str], str | None], ...] = (
    ("ix_exam_open", "exam", ["org_id", "state"], _OPEN),
    ("ix_exam_open_reading", "exam", ["reading_org_id", "state", "due_at"], _OPEN),
    ("ix_exam_returned", "exam", ["returned_at", "id"], None),
    ("ix_exam_org_returned", "exam", ["org_id", "returned_at", "id"], None),
    ("ix_exam_org_state", "exam", ["org_id", "state", "registered_at"], None),
    ("ix_exam_identity_open", "exam", ["state", "org_id"], "identity = 'open'"),
    ("ix_exam_thread", "exam", ["thread_last"], _TALKED),
    ("ix_exam_thread_org", "exam", ["org_id", "thread_last"], _TALKED),
    ("ix_exam_thread_reading", "exam", ["reading_org_id", "thread_last"], _TALKED),
    ("ix_limit_alert_raised", "limit_alert", ["exam_id"], "state = 'raised'"),
    ("ix_report_version_amending", "report_version", ["created_at", "report_id"], _AMENDING),
    ("ix_review_unread", "review", ["author_id", "signed_at"], "author_seen_at IS NULL"),
    ("ix_arbitration_first", "arbitration", ["first_id"], None),
    ("ix_arbitration_second", "arbitration", ["second_id"], None),
    ("ix_arbitration_arbiter", "arbitration", ["arbiter_id"], None),
    ("ix_critical_value_open", "critical_value", ["discovered_at"], "open_key IS NOT NULL"),
    ("ix_critical_value_org_discovered", "critical_value", ["org_id", "discovered_at"], None),
    ("ix_critical_value_hospital_discovered", "critical_value", ["hospital_id", "discovered_at"], None),
)
# name, table, columns and rows of before, columns and rows of now.
_CHANGED: tuple[tuple[str, str, list[str], str | None, list[str], str | None], ...] = (
    (
        *("ix_exam_org_registered", "exam", ["org_id", "registered_at"], None),
        *(["org_id", "registered_at", "id"], None),
    ),
    ("ix_exam_registered", "exam", ["registered_at"], None, ["registered_at", "id"], None),
    ("ix_exam_signed", "exam", ["signed_at"], None, ["signed_at", "id"], None),
    ("ix_exam_late_images", "exam", ["late_images_at"], None, ["reading_org_id", "late_images_at"], _LATE),
    ("ix_peer_review_reader", "peer_review", ["reader_id", "state"], None, ["reader_id", "state", "graded_at"], None),
    ("ix_peer_review_graded", "peer_review", ["graded_at"], None, ["state", "graded_at"], None),
)


def _create(name: str, table: str, columns: list[str], rows: str | None) -> None:
    where = sa.text(rows) if rows else None
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    """Forward. Every exam that was spoken of gets the id of its thread's last line for both sides."""
    op.add_column("exam", sa.Column("thread_last", sa.String(26), nullable=True))
    op.execute(
        "UPDATE exam SET thread_last ="
        " (SELECT t.id FROM thread_entry t WHERE t.exam_id = exam.id AND t.audience = 'all'"
        " ORDER BY t.at DESC, t.id DESC LIMIT 1)"
        " WHERE id IN (SELECT exam_id FROM thread_entry)"
    )
    for name, table, columns, rows in _NEW:
        _create(name, table, columns, rows)
    for name, table, _old, _old_rows, columns, rows in _CHANGED:
        op.drop_index(name, table_name=table)
        _create(name, table, columns, rows)


def downgrade() -> None:
    """Back."""
    for name, table, columns, rows, _new, _new_rows in _CHANGED:
        op.drop_index(name, table_name=table)
        _create(name, table, columns, rows)
    for name, table, _columns, _rows in reversed(_NEW):
        op.drop_index(name, table_name=table)
    op.drop_column("exam", "thread_last")
