"""Critical values"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.kit.db

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Procedures, their record, whom to ring, messages to the gateway.

    Reports that were signed as critical before have no procedure, and get none: an alarm about them would be false.
    """
    op.create_table(
        "critical_contact",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("role", sa.String(length=60), nullable=False),
        sa.Column("phone", sa.String(length=40), nullable=False),
        sa.Column("days", sa.JSON(), nullable=False),
        sa.Column("begins", sa.String(length=5), nullable=False),
        sa.Column("ends", sa.String(length=5), nullable=False),
        sa.Column("changed_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("changed_by_name", sa.String(length=60), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_critical_contact_org_id_organisation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_contact")),
    )
    op.create_index("ix_critical_contact_org", "critical_contact", ["org_id", "position"], unique=False)
    op.create_table(
        "critical_value",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("exam_id", sa.String(length=26), nullable=False),
        sa.Column("version_id", sa.String(length=26), nullable=True),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("hospital_id", sa.String(length=26), nullable=False),
        sa.Column("open_key", sa.String(length=60), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("class_code", sa.String(length=30), nullable=False),
        sa.Column("class_name", sa.String(length=60), nullable=False),
        sa.Column("class_name_en", sa.String(length=80), nullable=False),
        sa.Column("national", sa.Boolean(), nullable=False),
        sa.Column("finding", sa.Text(), nullable=False),
        sa.Column("discovered_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("flagged_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("flagged_by", sa.String(length=26), nullable=False),
        sa.Column("flagged_by_name", sa.String(length=60), nullable=False),
        sa.Column("escalate_due", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("breach_due", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("escalated_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("breached_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("received_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("received_by", sa.String(length=26), nullable=True),
        sa.Column("received_by_name", sa.String(length=60), nullable=False),
        sa.Column("received_role", sa.String(length=60), nullable=False),
        sa.Column("read_back", sa.Text(), nullable=False),
        sa.Column("way", sa.String(length=8), nullable=False),
        sa.Column("confirmed_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("confirmed_by", sa.String(length=26), nullable=True),
        sa.Column("confirmed_by_name", sa.String(length=60), nullable=False),
        sa.Column("acted_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("closed_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("closed_by_name", sa.String(length=60), nullable=False),
        sa.Column("withdrawn_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_by_name", sa.String(length=60), nullable=False),
        sa.Column("withdraw_reason", sa.String(length=400), nullable=False),
        sa.Column("withdrawal_seen_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_critical_value_exam_id_exam")),
        sa.ForeignKeyConstraint(
            ["hospital_id"], ["organisation.id"], name=op.f("fk_critical_value_hospital_id_organisation")
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_critical_value_org_id_organisation")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_critical_value_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_value")),
        sa.UniqueConstraint("open_key", name=op.f("uq_critical_value_open_key")),
    )
    op.create_index("ix_critical_value_discovered", "critical_value", ["discovered_at"], unique=False)
    op.create_index("ix_critical_value_escalate", "critical_value", ["state", "escalate_due"], unique=False)
    op.create_index(op.f("ix_critical_value_exam_id"), "critical_value", ["exam_id"], unique=False)
    op.create_index("ix_critical_value_hospital", "critical_value", ["hospital_id", "state"], unique=False)
    op.create_index("ix_critical_value_org", "critical_value", ["org_id", "state"], unique=False)
    op.create_table(
        "critical_entry",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("critical_id", sa.String(length=26), nullable=False),
        sa.Column("at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("actor_id", sa.String(length=26), nullable=False),
        sa.Column("actor_name", sa.String(length=100), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["critical_id"], ["critical_value.id"], name=op.f("fk_critical_entry_critical_id_critical_value")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_entry")),
    )
    op.create_index(op.f("ix_critical_entry_critical_id"), "critical_entry", ["critical_id"], unique=False)
    op.create_table(
        "critical_message",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("critical_id", sa.String(length=26), nullable=False),
        sa.Column("level", sa.String(length=12), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=200), nullable=False),
        sa.Column("queued_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("tried_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("sent_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["critical_id"], ["critical_value.id"], name=op.f("fk_critical_message_critical_id_critical_value")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_critical_message")),
    )
    op.create_index(op.f("ix_critical_message_critical_id"), "critical_message", ["critical_id"], unique=False)


def downgrade() -> None:
    """Without critical values; refused while any is on record, which nobody may lose."""
    if op.get_bind().execute(sa.text("SELECT count(*) FROM critical_value")).scalar():
        raise RuntimeError("critical values are on record: restore the backup of before the upgrade instead")
    for table in ("critical_message", "critical_entry", "critical_value", "critical_contact"):
        op.drop_table(table)
