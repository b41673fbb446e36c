"""Search columns, and metadata made ready"""

from __future__ import annotations

import json
import zlib
from typing import Any

import sqlalchemy as sa
from alembic import op

import hub.kit.db
from hub.studies import keys

revision = "0005"
down_revision = "0004"

_LIVE = sa.text("trashed_at IS NULL")
_INDEXES = {
    "ix_study_live_date": ["study_date", "id", "trashed_at", "readers"],
    "ix_study_live_latin": ["name_latin", "id", "trashed_at", "readers"],
    "ix_study_live_han": ["name_han", "id", "trashed_at", "readers"],
    "ix_study_live_sound": ["name_sound", "id", "trashed_at", "readers"],
    "ix_study_live_number": ["patient_number", "id", "trashed_at", "readers"],
    "ix_study_live_org_date": ["org_id", "study_date", "id", "trashed_at"],
    "ix_study_live_org_latin": ["org_id", "name_latin", "id", "trashed_at"],
    "ix_study_live_org_han": ["org_id", "name_han", "id", "trashed_at"],
}
_STUDY = {"name_latin": 200, "name_han": 200, "name_sound": 200, "patient_number": 64}
_SERIES = ("performed_date", "performed_time", "requests")
_BATCH = 1000

# Which hospital's readers may know a study by its exams: "" none, "*" all, one hospital's id, "+" ask the exams.
_HIDDEN = "('registered', 'receiving', 'cancelled')"
_ORG = "coalesce(e.reading_org_id, '*')"
_SEEN = f"e.state NOT IN {_HIDDEN}"
_READERS = f"""
  SELECT CASE
      WHEN coalesce(max(CASE WHEN e.org_id <> study.org_id THEN 1 ELSE 0 END), 0) = 1 THEN '+'
      WHEN coalesce(max(CASE WHEN {_SEEN} THEN 1 ELSE 0 END), 0) = 0 THEN ''
      WHEN min(CASE WHEN {_SEEN} THEN {_ORG} END) = max(CASE WHEN {_SEEN} THEN {_ORG} END)
        THEN min(CASE WHEN {_SEEN} THEN {_ORG} END)
      ELSE '+' END
    FROM exam_study l JOIN exam e ON e.id = l.exam_id WHERE l.study_id = study.id"""  # noqa: S608 - constants
_CHANGED = (
    f"(NEW.state IN {_HIDDEN}) <> (OLD.state IN {_HIDDEN}) OR NEW.org_id <> OLD.org_id"
    " OR coalesce(NEW.reading_org_id, '*') <> coalesce(OLD.reading_org_id, '*')"
)


def _key(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _text(value: Any) -> dict[str, Any]:
    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, dict) else {}


def upgrade() -> None:
    """Forward."""
    for name, length in _STUDY.items():
        op.add_column("study", sa.Column(name, _key(length), nullable=False, server_default=""))
    op.add_column("series", sa.Column("performed_date", sa.String(8), nullable=False, server_default=""))
    op.add_column("series", sa.Column("performed_time", sa.String(16), nullable=False, server_default=""))
    op.add_column("series", sa.Column("requests", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "series_metadata",
        sa.Column("series_id", sa.String(26), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_series_metadata_series_id_series"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_id", name=op.f("pk_series_metadata")),
    )
    op.add_column("study", sa.Column("readers", sa.String(26), nullable=False, server_default=""))
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE study ALTER COLUMN accession TYPE varchar(64) COLLATE "C"')
        op.execute(
            'ALTER TABLE patient ALTER COLUMN name TYPE varchar(200) COLLATE "C",'
            ' ALTER COLUMN pinyin TYPE varchar(400) COLLATE "C"'
        )
    _fill_studies()
    _fill_series()
    op.execute(f"UPDATE study SET readers = ({_READERS})")  # noqa: S608 - a constant
    op.drop_index("ix_study_date", table_name="study")
    for name, columns in _INDEXES.items():
        op.create_index(name, "study", columns, sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index("ix_series_modality_study", "series", ["modality", "study_id"])
    op.drop_index("ix_exam_study_study_id", table_name="exam_study")
    op.create_index("ix_exam_study_study_exam", "exam_study", ["study_id", "exam_id"])
    op.create_index("ix_exam_seen", "exam", ["id", "state", "reading_org_id", "patient_id"])
    op.create_index("ix_exam_reading_org", "exam", ["reading_org_id", "id"])
    # Whoever writes, the database itself keeps what searches trust.
    if op.get_bind().dialect.name == "postgresql":
        _keep_on_postgresql()
    else:
        _keep_on_sqlite()


def _keep_on_sqlite() -> None:
    def of(study: str) -> str:
        return f"UPDATE study SET readers = ({_READERS}) WHERE id IN ({study});"  # noqa: S608 - constants

    for name, event, body in (
        ("exam_study_readers_insert", "INSERT ON exam_study", of("NEW.study_id")),
        ("exam_study_readers_delete", "DELETE ON exam_study", of("OLD.study_id")),
        ("exam_study_readers_update", "UPDATE ON exam_study", of("OLD.study_id, NEW.study_id")),
        (
            "exam_readers",
            f"UPDATE OF state, reading_org_id, org_id ON exam WHEN {_CHANGED}",
            of("SELECT study_id FROM exam_study WHERE exam_id = NEW.id"),
        ),
    ):
        op.execute(f"CREATE TRIGGER {name} AFTER {event} BEGIN {body} END")


def _keep_on_postgresql() -> None:
    # The study is locked, and only then its exams are looked at: two exams of one study may change at once.
    op.execute(
        f"""
        CREATE FUNCTION study_readers(which text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
          PERFORM 1 FROM study WHERE id = which FOR NO KEY UPDATE;
          UPDATE study SET readers = ({_READERS}) WHERE id = which;
        END $$
        """  # noqa: S608 - a constant
    )
    # The exam is locked, so that its state is not being changed by another while the link is not yet seen there; and as
    # whoever counts its images locks it next: of two who only shared it, each would wait for the other.
    op.execute(
        """
        CREATE FUNCTION exam_study_readers() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP <> 'INSERT' THEN
            PERFORM study_readers(OLD.study_id);
          END IF;
          IF TG_OP <> 'DELETE' THEN
            PERFORM 1 FROM exam WHERE id = NEW.exam_id FOR NO KEY UPDATE;
            PERFORM study_readers(NEW.study_id);
          END IF;
          RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION exam_readers() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          PERFORM study_readers(s.id) FROM
            (SELECT t.id FROM study t JOIN exam_study l ON l.study_id = t.id WHERE l.exam_id = NEW.id ORDER BY t.uid) s;
          RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER exam_study_readers AFTER INSERT OR UPDATE OR DELETE ON exam_study"
        " FOR EACH ROW EXECUTE FUNCTION exam_study_readers()"
    )
    op.execute(
        "CREATE TRIGGER exam_readers AFTER UPDATE OF state, reading_org_id, org_id ON exam"
        f" FOR EACH ROW WHEN ({_CHANGED}) EXECUTE FUNCTION exam_readers()"
    )


def _keep_no_more() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER exam_readers ON exam")
        op.execute("DROP TRIGGER exam_study_readers ON exam_study")
        for name in ("exam_readers()", "exam_study_readers()", "study_readers(text)"):
            op.execute(f"DROP FUNCTION {name}")
        return
    for name in ("exam_readers", *(f"exam_study_readers_{event}" for event in ("insert", "delete", "update"))):
        op.execute(f"DROP TRIGGER {name}")


def _fill_studies() -> None:
    connection, last = op.get_bind(), ""
    while rows := connection.execute(
        sa.text("SELECT id, header_patient FROM study WHERE id > :last ORDER BY id LIMIT :most"),
        {"last": last, "most": _BATCH},
    ).all():
        values = []
        for row in rows:
            header = _text(row.header_patient)
            name = str(header.get("name") or "")
            values.append(
                {
                    "id": row.id,
                    "name_latin": keys.latin(name),
                    "name_han": keys.han(name),
                    "name_sound": keys.sound(name),
                    "patient_number": str(header.get("patient_id") or "")[:64],
                }
            )
        connection.execute(
            sa.text(
                "UPDATE study SET name_latin = :name_latin, name_han = :name_han, name_sound = :name_sound,"
                " patient_number = :patient_number WHERE id = :id"
            ),
            values,
        )
        last = rows[-1].id


def _fill_series() -> None:
    """From the header of the first instance of each series."""
    connection, last = op.get_bind(), ""
    table = sa.table(
        "series", sa.column("id"), *(sa.column(name) for name in _SERIES[:2]), sa.column("requests", sa.JSON)
    )
    while rows := connection.execute(
        sa.text(
            "SELECT s.id, (SELECT h.body FROM instance i JOIN instance_header h ON h.instance_id = i.id"
            " WHERE i.series_id = s.id ORDER BY i.id LIMIT 1) AS body"
            " FROM series s WHERE s.id > :last ORDER BY s.id LIMIT :most"
        ),
        {"last": last, "most": _BATCH},
    ).all():
        for row in rows:
            try:
                found = keys.of_series_json(json.loads(zlib.decompress(row.body)))
            except (TypeError, ValueError, zlib.error):
                continue
            if any(found.values()):
                connection.execute(sa.update(table).where(table.c.id == row.id).values(**found))
        last = rows[-1].id


def downgrade() -> None:
    """Back."""
    _keep_no_more()
    op.drop_index("ix_series_modality_study", table_name="series")
    op.drop_index("ix_exam_reading_org", table_name="exam")
    op.drop_index("ix_exam_seen", table_name="exam")
    op.create_index("ix_exam_study_study_id", "exam_study", ["study_id"])
    op.drop_index("ix_exam_study_study_exam", table_name="exam_study")
    for name in _INDEXES:
        op.drop_index(name, table_name="study")
    op.create_index("ix_study_date", "study", ["study_date", "id"])
    op.drop_table("series_metadata")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE study ALTER COLUMN accession TYPE varchar(64)")
        op.execute("ALTER TABLE patient ALTER COLUMN name TYPE varchar(200), ALTER COLUMN pinyin TYPE varchar(400)")
    # SQLite drops a column in place: making the table anew would fall foul of those that point at it.
    for table, columns in (("study", (*_STUDY, "readers")), ("series", _SERIES)):
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
