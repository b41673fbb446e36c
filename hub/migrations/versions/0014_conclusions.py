"""Changed conclusions that nobody acknowledges are escalated"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

import hub.kit.db

revision = "0014"
down_revision = "0013"

_ID = sa.String(26)
_TIME = hub.kit.db.UtcDateTime(timezone=True)
_ESCALATE, _BREACH = timedelta(minutes=15), timedelta(minutes=30)
# Only while the columns are new: each row gets its own times below.
_NONE_YET = sa.text("'1970-01-01 00:00:00+00:00'")


def upgrade() -> None:
    """Forward. The timers of what is open begin now: nobody is rung at night for what has lain there for a month."""
    op.add_column("conclusion_change", sa.Column("hospital_id", _ID, nullable=True))
    for name in ("escalate_due", "breach_due"):
        op.add_column("conclusion_change", sa.Column(name, _TIME, nullable=False, server_default=_NONE_YET))
    for name in ("escalated_at", "breached_at"):
        op.add_column("conclusion_change", sa.Column(name, _TIME, nullable=True))
    op.add_column("conclusion_change", sa.Column("rung", sa.JSON(), nullable=False, server_default="[]"))
    op.create_index("ix_conclusion_change_due", "conclusion_change", ["state", "escalate_due"])
    changes = sa.table(
        "conclusion_change",
        *(sa.column("id", _ID), sa.column("exam_id", _ID), sa.column("hospital_id", _ID)),
        *(
            sa.column("state", sa.String(12)),
            sa.column("opened_at", _TIME),
            sa.column("escalate_due", _TIME),
            sa.column("breach_due", _TIME),
        ),
    )
    exams = sa.table("exam", sa.column("id", _ID), sa.column("reading_org_id", _ID))
    bind, now = op.get_bind(), datetime.now(UTC)
    found = bind.execute(
        sa.select(changes.c.id, changes.c.state, changes.c.opened_at, exams.c.reading_org_id).join(
            exams, exams.c.id == changes.c.exam_id
        )
    )
    for row in found.all():
        begun = now if row.state == "open" else row.opened_at
        bind.execute(
            changes.update()
            .where(changes.c.id == row.id)
            .values(
                hospital_id=row.reading_org_id,
                escalate_due=begun + _ESCALATE,
                breach_due=begun + _BREACH,
            )
        )
    op.create_table(
        "conclusion_message",
        sa.Column("id", _ID, nullable=False),
        sa.Column("change_id", _ID, nullable=False),
        sa.Column("level", sa.String(12), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(200), nullable=False),
        sa.Column("queued_at", _TIME, nullable=False),
        sa.Column("tried_at", _TIME, nullable=True),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["change_id"], ["conclusion_change.id"], name=op.f("fk_conclusion_message_change_id_conclusion_change")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conclusion_message")),
    )
    op.create_index(op.f("ix_conclusion_message_change_id"), "conclusion_message", ["change_id"])


def downgrade() -> None:
    """Without timers: what was escalated is open again."""
    op.drop_table("conclusion_message")
    op.execute("UPDATE conclusion_change SET state = 'open' WHERE state IN ('escalated', 'breached')")
    op.drop_index("ix_conclusion_change_due", "conclusion_change")
    # Not in batch: on SQLite that would make the table anew.
    for name in ("rung", "breached_at", "escalated_at", "breach_due", "escalate_due", "hospital_id"):
        op.drop_column("conclusion_change", name)
