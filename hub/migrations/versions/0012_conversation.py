"""Reader and clinic"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.kit.db
from hub.kit.ids import new_id

revision = "0012"
down_revision = "0011"

_TIME = hub.kit.db.UtcDateTime(timezone=True)
_UNREAD = sa.text("read_at IS NULL")
_OPEN = sa.text("state = 'open'")
_ASKED = sa.text(
    "SELECT t.exam_id, t.at, t.event, t.from_state, t.actor_id, t.actor_name, t.reason, e.org_id, e.reading_org_id,"
    " e.state, e.history_requested_at FROM exam_transition t JOIN exam e ON e.id = t.exam_id"
    " WHERE t.event IN ('request_history', 'answer_history', 'request_retake') ORDER BY t.id"
).columns(at=_TIME, history_requested_at=_TIME)


def _key(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, sa.String(26), nullable=False)


def _text(name: str, size: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(size), nullable=False)


def _exam(table: str, column: str = "exam_id") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["exam.id"], name=op.f(f"fk_{table}_{column}_exam"))


def upgrade() -> None:
    """Forward. What readers asked before stands in the threads, and what is open can still be answered."""
    op.add_column("exam", sa.Column("paused_at", _TIME, nullable=True))
    pauses = op.create_table(
        "exam_pause",
        _key(),
        _key("exam_id"),
        _text("why", 10),
        sa.Column("began_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        _exam("exam_pause"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exam_pause")),
    )
    op.create_index(op.f("ix_exam_pause_exam_id"), "exam_pause", ["exam_id"])
    op.create_table(
        "kept_exam",
        _key("exam_id"),
        _key("person_id"),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("until", _TIME, nullable=True),
        _exam("kept_exam"),
        sa.PrimaryKeyConstraint("exam_id", name=op.f("pk_kept_exam")),
    )
    op.create_index(op.f("ix_kept_exam_person_id"), "kept_exam", ["person_id"])
    entries = op.create_table(
        "thread_entry",
        _key(),
        _key("exam_id"),
        sa.Column("at", _TIME, nullable=False),
        _text("kind", 20),
        _text("side", 10),
        _text("audience", 10),
        sa.Column("org_id", sa.String(26), nullable=True),
        _key("person_id"),
        _text("person_name", 100),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("read_at", _TIME, nullable=True),
        _key("read_by"),
        _text("read_by_name", 100),
        _exam("thread_entry"),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_thread_entry_org_id_organisation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thread_entry")),
    )
    op.create_index("ix_thread_entry_exam", "thread_entry", ["exam_id", "id"])
    op.create_index(
        "ix_thread_entry_unread",
        "thread_entry",
        ["side", "exam_id"],
        sqlite_where=_UNREAD,
        postgresql_where=_UNREAD,
    )
    op.create_table(
        "thread_picture",
        _key(),
        _key("exam_id"),
        sa.Column("entry_id", sa.String(26), nullable=True),
        sa.Column("at", _TIME, nullable=False),
        _key("person_id"),
        _text("object_key", 200),
        _text("sha256", 64),
        _text("content_type", 40),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        _text("caption", 100),
        _text("sop_uid", 64),
        sa.Column("frame", sa.Integer(), nullable=True),
        _exam("thread_picture"),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["thread_entry.id"], name=op.f("fk_thread_picture_entry_id_thread_entry")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thread_picture")),
    )
    op.create_index(op.f("ix_thread_picture_exam_id"), "thread_picture", ["exam_id"])
    op.create_index(op.f("ix_thread_picture_entry_id"), "thread_picture", ["entry_id"])
    requests = op.create_table(
        "retake_request",
        _key(),
        _key("exam_id"),
        sa.Column("at", _TIME, nullable=False),
        _key("person_id"),
        _text("person_name", 100),
        _text("from_state", 20),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        _text("state", 12),
        sa.Column("answered_at", _TIME, nullable=True),
        _key("answered_by"),
        _text("answered_name", 100),
        _text("answer_reason", 40),
        sa.Column("answer_note", sa.Text(), nullable=False),
        sa.Column("retake_id", sa.String(26), nullable=True),
        _exam("retake_request"),
        _exam("retake_request", "retake_id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retake_request")),
    )
    op.create_index("ix_retake_request_exam", "retake_request", ["exam_id", "id"])
    op.create_index("ix_retake_request_at", "retake_request", ["at"])
    op.create_index(op.f("ix_retake_request_retake_id"), "retake_request", ["retake_id"])
    op.create_index(
        "ix_retake_request_open",
        "retake_request",
        ["exam_id"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.create_table(
        "review_passage",
        _key(),
        _key("version_id"),
        sa.Column("revision", sa.Integer(), nullable=False),
        _text("field", 20),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("quoted", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        _key("person_id"),
        _text("person_name", 100),
        sa.Column("resolved_at", _TIME, nullable=True),
        _key("resolved_by"),
        _text("resolved_name", 100),
        sa.ForeignKeyConstraint(
            ["version_id"], ["report_version.id"], name=op.f("fk_review_passage_version_id_report_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_passage")),
    )
    op.create_index("ix_review_passage_version", "review_passage", ["version_id", "id"])
    _carry_over(pauses, entries, requests)


def _carry_over(pauses: sa.Table, entries: sa.Table, requests: sa.Table) -> None:
    bind = op.get_bind()
    rows = bind.execute(_ASKED).all()
    kinds = {
        "request_history": "history_asked",
        "answer_history": "history_answered",
        "request_retake": "retake_asked",
    }
    last = {(row.exam_id, row.event): row for row in rows}
    for row in rows:
        final = last[row.exam_id, row.event] is row
        open_now = final and (row.event, row.state) in {
            ("request_history", "history_requested"),
            ("request_retake", "retake"),
        }
        clinic = row.event == "answer_history"
        bind.execute(
            entries.insert().values(
                id=new_id(),
                exam_id=row.exam_id,
                at=row.at,
                kind=kinds[row.event],
                side="clinic" if clinic else "reader",
                audience="all",
                org_id=row.org_id if clinic else row.reading_org_id,
                person_id=row.actor_id,
                person_name=row.actor_name,
                text=row.reason,
                data={},
                read_at=None if open_now else row.at,
                read_by="",
                read_by_name="",
            )
        )
        if row.event == "request_retake":
            bind.execute(
                requests.insert().values(
                    id=new_id(),
                    exam_id=row.exam_id,
                    at=row.at,
                    person_id=row.actor_id,
                    person_name=row.actor_name,
                    from_state=row.from_state,
                    reasons=[],
                    note=row.reason,
                    state="open" if open_now else "closed",
                    answered_at=None,
                    answered_by="",
                    answered_name="",
                    answer_reason="",
                    answer_note="",
                    retake_id=None,
                )
            )
        elif open_now:
            bind.execute(
                pauses.insert().values(id=new_id(), exam_id=row.exam_id, why="history", began_at=row.at, ended_at=None)
            )
    op.execute("UPDATE exam SET paused_at = history_requested_at WHERE state = 'history_requested'")


def downgrade() -> None:
    """Without threads. Questions and returns stay in the log of transitions."""
    for table in ("review_passage", "retake_request", "thread_picture", "thread_entry", "kept_exam", "exam_pause"):
        op.drop_table(table)
    # Not in batch: on SQLite that would make the table anew and lose its triggers.
    op.drop_column("exam", "paused_at")
