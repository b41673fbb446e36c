"""Templates, phrases and drafts"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.kit.db

revision = "0007"
down_revision = "0006"

_TIME = hub.kit.db.UtcDateTime(timezone=True)
_ID = sa.String(length=26)


def upgrade() -> None:
    """Whom a template is for; phrases; copied sentences, links to images, texts without a version."""
    op.add_column("report_template", sa.Column("sex", sa.String(length=1), nullable=False, server_default=""))
    op.add_column("report_template", sa.Column("age_from", sa.Integer(), nullable=True))
    op.add_column("report_template", sa.Column("age_to", sa.Integer(), nullable=True))
    op.create_table(
        "report_phrase",
        sa.Column("id", _ID, nullable=False),
        sa.Column("scope", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=20), nullable=False),
        sa.Column("modality", sa.String(length=4), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report_phrase")),
        sa.UniqueConstraint("scope", "code", "modality", name=op.f("uq_report_phrase_scope_code_modality")),
    )
    op.create_index(op.f("ix_report_phrase_scope"), "report_phrase", ["scope"], unique=False)
    op.create_table(
        "stray_text",
        sa.Column("id", _ID, nullable=False),
        sa.Column("exam_id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_stray_text_exam_id_exam")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stray_text")),
    )
    op.create_index(op.f("ix_stray_text_exam_id"), "stray_text", ["exam_id"], unique=False)
    op.create_table(
        "copied_text",
        sa.Column("id", _ID, nullable=False),
        sa.Column("version_id", _ID, nullable=False),
        sa.Column("field", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("source_id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("confirmed_at", _TIME, nullable=True),
        sa.Column("confirmed_by", _ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["source_id"], ["report_version.id"], name=op.f("fk_copied_text_source_id_report_version")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_copied_text_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_copied_text")),
        sa.UniqueConstraint("version_id", "field", "sha256", name=op.f("uq_copied_text_version_id_field_sha256")),
    )
    op.create_index(op.f("ix_copied_text_version_id"), "copied_text", ["version_id"], unique=False)
    op.create_table(
        "report_link",
        sa.Column("id", _ID, nullable=False),
        sa.Column("version_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=True),
        sa.Column("annotation", sa.JSON(), nullable=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_report_link_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report_link")),
    )
    op.create_index(op.f("ix_report_link_version_id"), "report_link", ["version_id"], unique=False)
    op.create_table(
        "exam_drawings",
        sa.Column("exam_id", _ID, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("saved_at", _TIME, nullable=False),
        sa.Column("saved_by", _ID, nullable=False),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_exam_drawings_exam_id_exam")),
        sa.PrimaryKeyConstraint("exam_id", name=op.f("pk_exam_drawings")),
    )


def downgrade() -> None:
    """Back."""
    for name in ("exam_drawings", "report_link", "copied_text", "stray_text", "report_phrase"):
        op.drop_table(name)
    with op.batch_alter_table("report_template") as batch:
        for name in ("age_to", "age_from", "sex"):
            batch.drop_column(name)
