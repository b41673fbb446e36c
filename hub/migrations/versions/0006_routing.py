"""Routing, rota and shares"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.kit.db

revision = "0006"
down_revision = "0005"

_TIME = hub.kit.db.UtcDateTime(timezone=True)
_ID = sa.String(length=26)


def upgrade() -> None:
    """Plan, rota, skills, routes and alerts; exams with a draft stay with the hospital that has it."""
    op.create_table(
        "routing_plan",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("changed_by", _ID, nullable=False),
        sa.Column("changed_by_name", sa.String(length=60), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_routing_plan")),
    )
    op.create_table(
        "rota_shift",
        sa.Column("id", _ID, nullable=False),
        sa.Column("hospital_id", _ID, nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("starts_at", _TIME, nullable=False),
        sa.Column("ends_at", _TIME, nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("skills", sa.JSON(), nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("changed_by", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["hospital_id"], ["organisation.id"], name=op.f("fk_rota_shift_hospital_id_organisation")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_rota_shift_person_id_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rota_shift")),
    )
    op.create_index("ix_rota_shift_times", "rota_shift", ["ends_at", "starts_at"])
    op.create_index("ix_rota_shift_hospital", "rota_shift", ["hospital_id", "ends_at"])
    op.create_index("ix_rota_shift_person", "rota_shift", ["person_id", "ends_at"])
    op.create_table(
        "reading_skill",
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("skills", sa.JSON(), nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("changed_by", _ID, nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_reading_skill_person_id_person")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_reading_skill")),
    )
    op.create_table(
        "exam_route",
        sa.Column("exam_id", _ID, nullable=False),
        sa.Column("hospital_id", _ID, nullable=True),
        sa.Column("rule", sa.String(length=40), nullable=False),
        sa.Column("plan", sa.Integer(), nullable=False),
        sa.Column("why", sa.JSON(), nullable=False),
        sa.Column("asked", sa.String(length=200), nullable=False),
        sa.Column("tried", sa.JSON(), nullable=False),
        sa.Column("offered", sa.JSON(), nullable=False),
        sa.Column("decided_at", _TIME, nullable=True),
        sa.Column("answer_by", _TIME, nullable=True),
        sa.Column("taken_by", _ID, nullable=True),
        sa.Column("taken_at", _TIME, nullable=True),
        sa.Column("kept_by", _ID, nullable=True),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_exam_route_exam_id_exam")),
        sa.ForeignKeyConstraint(
            ["hospital_id"], ["organisation.id"], name=op.f("fk_exam_route_hospital_id_organisation")
        ),
        sa.PrimaryKeyConstraint("exam_id", name=op.f("pk_exam_route")),
    )
    op.create_index("ix_exam_route_share", "exam_route", ["rule", "decided_at"])
    op.create_index("ix_exam_route_decided", "exam_route", ["decided_at", "hospital_id"])
    op.create_index("ix_exam_route_answer", "exam_route", ["answer_by"])
    op.create_index("ix_exam_route_taken", "exam_route", ["taken_at"])
    op.create_table(
        "limit_alert",
        sa.Column("id", _ID, nullable=False),
        sa.Column("exam_id", _ID, nullable=False),
        sa.Column("limit_key", sa.String(length=20), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("due_at", _TIME, nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("raised_at", _TIME, nullable=True),
        sa.Column("hospital_id", _ID, nullable=True),
        sa.Column("holder_id", _ID, nullable=True),
        sa.Column("hospital_seen_at", _TIME, nullable=True),
        sa.Column("hospital_seen_by", _ID, nullable=False),
        sa.Column("county_seen_at", _TIME, nullable=True),
        sa.Column("county_seen_by", _ID, nullable=False),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_limit_alert_exam_id_exam")),
        sa.ForeignKeyConstraint(
            ["hospital_id"], ["organisation.id"], name=op.f("fk_limit_alert_hospital_id_organisation")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_limit_alert")),
        sa.UniqueConstraint("exam_id", "limit_key", "level", name=op.f("uq_limit_alert_exam_id_limit_key_level")),
    )
    op.create_index("ix_limit_alert_due", "limit_alert", ["state", "at"])
    op.execute(
        sa.text(
            "INSERT INTO exam_route (exam_id, hospital_id, rule, plan, why, asked, tried, offered, kept_by) "
            "SELECT exam.id, exam.reading_org_id, '', 0, '[]', '', '[]', '[]', exam.reading_org_id FROM exam "
            "WHERE exam.reading_org_id IS NOT NULL "
            "AND exam.state IN ('to_read', 'reading', 'to_review', 'reviewing', 'rejected', 'preliminary', "
            "'history_requested', 'consultation') "
            "AND EXISTS (SELECT 1 FROM report JOIN report_version ON report_version.report_id = report.id "
            "WHERE report.exam_id = exam.id)"
        )
    )


def downgrade() -> None:
    """Without routing: exams stay where they are."""
    for table in ("limit_alert", "exam_route", "reading_skill", "rota_shift", "routing_plan"):
        op.drop_table(table)
