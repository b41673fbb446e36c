"""Checks of a report"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.kit.db

revision = "0008"
down_revision = "0007"

_STANDING = sa.text("withdrawn_at IS NULL")


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "report_check_override",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("version_id", sa.String(26), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(24), nullable=False),
        sa.Column("code", sa.String(24), nullable=False),
        sa.Column("field", sa.String(16), nullable=False),
        sa.Column("passage", sa.Text(), nullable=False),
        sa.Column("why", sa.String(12), nullable=False),
        sa.Column("reason", sa.String(400), nullable=False),
        sa.Column("person_id", sa.String(26), nullable=False),
        sa.Column("person_name", sa.String(60), nullable=False),
        sa.Column("at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_report_check_override_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report_check_override")),
    )
    op.create_index("ix_report_check_override_version_id", "report_check_override", ["version_id"])
    op.create_index("ix_report_check_override_at", "report_check_override", ["at"])
    op.create_index(
        "uq_report_check_override_standing",
        "report_check_override",
        ["version_id", "fingerprint"],
        unique=True,
        sqlite_where=_STANDING,
        postgresql_where=_STANDING,
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("report_check_override")
