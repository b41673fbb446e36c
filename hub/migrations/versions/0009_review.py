"""The second pair of eyes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.kit.db

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "image_loan",
        sa.Column("exam_id", sa.String(length=26), nullable=False),
        sa.Column("person_id", sa.String(length=26), nullable=False),
        sa.Column("until", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_image_loan_exam_id_exam")),
        sa.PrimaryKeyConstraint("exam_id", "person_id", name=op.f("pk_image_loan")),
    )
    op.create_index("ix_image_loan_person", "image_loan", ["person_id", "until"], unique=False)
    op.create_table(
        "arbitration",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("source_id", sa.String(length=26), nullable=False),
        sa.Column("exam_id", sa.String(length=26), nullable=False),
        sa.Column("version_id", sa.String(length=26), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("first_id", sa.String(length=26), nullable=False),
        sa.Column("second_id", sa.String(length=26), nullable=False),
        sa.Column("arbiter_id", sa.String(length=26), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("opened_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("decision", sa.String(length=10), nullable=False),
        sa.Column("radpeer", sa.String(length=2), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.String(length=26), nullable=True),
        sa.Column("decided_by_name", sa.String(length=60), nullable=False),
        sa.Column("first_seen_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("second_seen_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_arbitration_exam_id_exam")),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_arbitration_org_id_organisation")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_arbitration_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arbitration")),
        sa.UniqueConstraint("source", "source_id", name=op.f("uq_arbitration_source_source_id")),
    )
    op.create_index(op.f("ix_arbitration_exam_id"), "arbitration", ["exam_id"], unique=False)
    op.create_index("ix_arbitration_state", "arbitration", ["state", "opened_at"], unique=False)
    op.create_table(
        "conclusion_change",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("exam_id", sa.String(length=26), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("preliminary_id", sa.String(length=26), nullable=False),
        sa.Column("version_id", sa.String(length=26), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("differences", sa.JSON(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("opened_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("opened_by_name", sa.String(length=60), nullable=False),
        sa.Column("acknowledged_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=26), nullable=True),
        sa.Column("acknowledged_by_name", sa.String(length=60), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_conclusion_change_exam_id_exam")),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_conclusion_change_org_id_organisation")),
        sa.ForeignKeyConstraint(
            ["preliminary_id"], ["report_version.id"], name=op.f("fk_conclusion_change_preliminary_id_report_version")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_conclusion_change_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conclusion_change")),
        sa.UniqueConstraint("version_id", name=op.f("uq_conclusion_change_version_id")),
    )
    op.create_index(op.f("ix_conclusion_change_exam_id"), "conclusion_change", ["exam_id"], unique=False)
    op.create_index("ix_conclusion_change_open", "conclusion_change", ["org_id", "state"], unique=False)
    op.create_table(
        "peer_draw",
        sa.Column("version_id", sa.String(length=26), nullable=False),
        sa.Column("at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("modality", sa.String(length=4), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("rule", sa.String(length=10), nullable=False),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_peer_draw_org_id_organisation")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_peer_draw_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_peer_draw")),
    )
    op.create_table(
        "peer_review",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("version_id", sa.String(length=26), nullable=False),
        sa.Column("exam_id", sa.String(length=26), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("modality", sa.String(length=4), nullable=False),
        sa.Column("rule", sa.String(length=10), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("drawn_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("reader_id", sa.String(length=26), nullable=True),
        sa.Column("reader_name", sa.String(length=60), nullable=False),
        sa.Column("reader_org_id", sa.String(length=26), nullable=True),
        sa.Column("assigned_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("due_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("passed", sa.JSON(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("verdict_positive", sa.Boolean(), nullable=True),
        sa.Column("verdict_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("agreement", sa.String(length=10), nullable=False),
        sa.Column("significant", sa.Boolean(), nullable=True),
        sa.Column("radpeer", sa.String(length=2), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("graded_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_peer_review_exam_id_exam")),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_peer_review_org_id_organisation")),
        sa.ForeignKeyConstraint(
            ["reader_org_id"], ["organisation.id"], name=op.f("fk_peer_review_reader_org_id_organisation")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_peer_review_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_peer_review")),
        sa.UniqueConstraint("version_id", name=op.f("uq_peer_review_version_id")),
    )
    op.create_index(op.f("ix_peer_review_exam_id"), "peer_review", ["exam_id"], unique=False)
    op.create_index("ix_peer_review_graded", "peer_review", ["graded_at"], unique=False)
    op.create_index("ix_peer_review_reader", "peer_review", ["reader_id", "state"], unique=False)
    op.create_index("ix_peer_review_state", "peer_review", ["state", "due_at"], unique=False)
    op.create_table(
        "review",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("version_id", sa.String(length=26), nullable=False),
        sa.Column("exam_id", sa.String(length=26), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("author_id", sa.String(length=26), nullable=False),
        sa.Column("author_name", sa.String(length=60), nullable=False),
        sa.Column("reviewer_id", sa.String(length=26), nullable=False),
        sa.Column("reviewer_name", sa.String(length=60), nullable=False),
        sa.Column("agreement", sa.String(length=10), nullable=False),
        sa.Column("significant", sa.Boolean(), nullable=True),
        sa.Column("radpeer", sa.String(length=2), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("conclusion_changed", sa.Boolean(), nullable=True),
        sa.Column("conclusion_note", sa.Text(), nullable=False),
        sa.Column("conclusion_confirmed", sa.Boolean(), nullable=False),
        sa.Column("submitted", sa.JSON(), nullable=False),
        sa.Column("changed", sa.JSON(), nullable=False),
        sa.Column("saved_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("signed_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("author_seen_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_review_exam_id_exam")),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_review_org_id_organisation")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_review_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("version_id", "reviewer_id", name=op.f("uq_review_version_id_reviewer_id")),
    )
    op.create_index("ix_review_author", "review", ["author_id", "signed_at"], unique=False)
    op.create_index(op.f("ix_review_exam_id"), "review", ["exam_id"], unique=False)
    op.create_index("ix_review_signed", "review", ["signed_at"], unique=False)


def downgrade() -> None:
    """Back. A preliminary report becomes a given-up draft: what came before knows no such state."""
    op.execute(
        "UPDATE report_version SET state = 'discarded', kind = 'original', number = -1000000 - number"
        " WHERE state = 'issued'"
    )
    for table in ("image_loan", "peer_review", "peer_draw", "arbitration", "conclusion_change", "review"):
        op.drop_table(table)
