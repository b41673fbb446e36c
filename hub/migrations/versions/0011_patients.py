"""Patients over time: pairs of patients, mutual recognition, image scores"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

import hub.kit.db
from hub.kit.ids import new_id

revision = "0011"
down_revision = "0010"

_AT = hub.kit.db.UtcDateTime(timezone=True)


def _text(name: str, length: int, default: str = "") -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), nullable=False, default=default)


def upgrade() -> None:
    """Pairs with their history take the place of links; recognition and image scores are new."""
    op.create_table(
        "patient_pair",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("one_id", sa.String(length=26), nullable=False),
        sa.Column("two_id", sa.String(length=26), nullable=False),
        _text("state", 10),
        _text("basis", 10),
        sa.Column("version", sa.Integer(), nullable=False),
        _text("reason", 400),
        sa.Column("created_at", _AT, nullable=False),
        sa.Column("changed_at", _AT, nullable=False),
        _text("changed_by", 26),
        _text("changed_by_name", 100),
        sa.ForeignKeyConstraint(["one_id"], ["patient.id"], name=op.f("fk_patient_pair_one_id_patient")),
        sa.ForeignKeyConstraint(["two_id"], ["patient.id"], name=op.f("fk_patient_pair_two_id_patient")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_pair")),
        sa.UniqueConstraint("one_id", "two_id", name=op.f("uq_patient_pair_one_id_two_id")),
    )
    op.create_index("ix_patient_pair_one_id", "patient_pair", ["one_id"])
    op.create_index("ix_patient_pair_two_id", "patient_pair", ["two_id"])
    op.create_index("ix_patient_pair_state", "patient_pair", ["state", "changed_at"])
    op.create_table(
        "patient_pair_event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("pair_id", sa.String(length=26), nullable=False),
        sa.Column("at", _AT, nullable=False),
        _text("event", 12),
        _text("from_state", 10),
        _text("to_state", 10),
        _text("actor_id", 26),
        _text("actor_name", 100),
        _text("reason", 400),
        sa.Column("sides", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pair_id"], ["patient_pair.id"], name=op.f("fk_patient_pair_event_pair_id_patient_pair")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_pair_event")),
    )
    op.create_index("ix_patient_pair_event_pair_id", "patient_pair_event", ["pair_id"])
    op.create_table(
        "patient_correction",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("patient_id", sa.String(length=26), nullable=False),
        sa.Column("at", _AT, nullable=False),
        _text("actor_id", 26),
        _text("actor_name", 100),
        _text("reason", 400),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name=op.f("fk_patient_correction_patient_id_patient")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_correction")),
    )
    op.create_index("ix_patient_correction_patient_id", "patient_correction", ["patient_id"])
    # SQLite adds a column that may be empty without making the table anew; so there is no constraint on this one.
    op.add_column("patient", sa.Column("home_county_id", sa.String(length=26), nullable=True))
    _carry_links()
    op.drop_table("patient_link")
    op.create_table(
        "recognition",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("exam_id", sa.String(length=26), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("patient_id", sa.String(length=26), nullable=False),
        _text("item", 200),
        sa.Column("found", sa.JSON(), nullable=False),
        _text("state", 10),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("offered_at", _AT, nullable=False),
        _text("offered_to", 26),
        sa.Column("expires_at", _AT, nullable=False),
        sa.Column("decided_at", _AT, nullable=True),
        _text("decided_by", 26),
        _text("decided_by_name", 100),
        sa.Column("chosen_id", sa.String(length=26), nullable=True),
        sa.Column("access_until", _AT, nullable=True),
        _text("reason", 20),
        _text("reason_text", 400),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_recognition_exam_id_exam")),
        sa.ForeignKeyConstraint(["chosen_id"], ["exam.id"], name=op.f("fk_recognition_chosen_id_exam")),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_recognition_org_id_organisation")),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name=op.f("fk_recognition_patient_id_patient")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recognition")),
        sa.UniqueConstraint("exam_id", name=op.f("uq_recognition_exam_id")),
    )
    op.create_index("ix_recognition_patient_id", "recognition", ["patient_id"])
    op.create_index("ix_recognition_chosen_id", "recognition", ["chosen_id"])
    op.create_index("ix_recognition_org_offered", "recognition", ["org_id", "offered_at"])
    op.create_index("ix_recognition_state", "recognition", ["state", "expires_at"])
    op.create_table(
        "evaluated_item",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        _text("item", 40),
        _text("scope", 10),
        _text("evidence", 200),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("noted_at", _AT, nullable=False),
        _text("noted_by", 26),
        sa.Column("ended_at", _AT, nullable=True),
        _text("ended_by", 26),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_evaluated_item_org_id_organisation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluated_item")),
    )
    op.create_index("ix_evaluated_item_org_id", "evaluated_item", ["org_id"])
    op.create_table(
        "image_score",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("exam_id", sa.String(length=26), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("grade", 6),
        sa.Column("reasons", sa.JSON(), nullable=False),
        _text("artefact", 4),
        sa.Column("examples", sa.JSON(), nullable=False),
        _text("note", 400),
        sa.Column("at", _AT, nullable=False),
        _text("person_id", 26),
        _text("person_name", 100),
        sa.Column("org_id", sa.String(length=26), nullable=True),
        _text("source", 8),
        sa.Column("replaced_at", _AT, nullable=True),
        sa.ForeignKeyConstraint(["exam_id"], ["exam.id"], name=op.f("fk_image_score_exam_id_exam")),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_image_score_org_id_organisation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_score")),
        sa.UniqueConstraint("exam_id", "number", name=op.f("uq_image_score_exam_id_number")),
    )
    op.create_index("ix_image_score_at", "image_score", ["at"])


_LINK = sa.table(
    "patient_link",
    *(
        sa.column(name)
        for name in ("id", "patient_id", "other_id", "from_county_id", "to_county_id", "status", "undone_by")
    ),
    sa.column("at", _AT),
    sa.column("undone_at", _AT),
)
_PAIR = sa.table(
    "patient_pair",
    *(
        sa.column(name)
        for name in (
            *("id", "one_id", "two_id", "state", "basis", "version", "reason", "changed_by", "changed_by_name"),
        )
    ),
    sa.column("created_at", _AT),
    sa.column("changed_at", _AT),
)
_EVENT = sa.table(
    "patient_pair_event",
    *(sa.column(name) for name in ("pair_id", "event", "from_state", "to_state", "actor_id", "actor_name", "reason")),
    sa.column("at", _AT),
    sa.column("sides", sa.JSON()),
)
_PATIENT = sa.table("patient", sa.column("id"), sa.column("county_patient_id"), sa.column("home_county_id"))

_STATES = {"linked": "linked", "undone": "apart", "conflict": "conflict"}
_EVENTS = {"linked": "link_sure", "undone": "undo", "conflict": "contradict"}


def _carry_links() -> None:
    """One pair for each two patients of whom there is a link: its last word holds, its first tells the home."""
    connection = op.get_bind()
    connection.execute(sa.update(_PATIENT).values(home_county_id=_PATIENT.c.county_patient_id))
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    homes: dict[str, str] = {}
    events: list[dict[str, Any]] = []
    for row in connection.execute(sa.select(_LINK).order_by(_LINK.c.at, _LINK.c.id)).mappings():
        homes.setdefault(row["patient_id"], row["from_county_id"])
        one, two = sorted((row["patient_id"], row["other_id"]))
        pair = pairs.setdefault((one, two), {"id": new_id(), "created_at": row["at"], "state": "none", "version": 0})
        at = row["undone_at"] or row["at"]
        events.append(
            {
                "pair_id": pair["id"],
                "at": at,
                "event": _EVENTS[row["status"]],
                "from_state": pair["state"],
                "to_state": _STATES[row["status"]],
                "actor_id": row["undone_by"] or "system",
                "actor_name": "",
                "reason": "",
                "sides": [],
            }
        )
        # A decision to keep two apart outlasts a conflict that was noted of the same two.
        if pair["state"] != "apart" or row["status"] == "linked":
            pair["state"] = _STATES[row["status"]]
        pair.update(version=pair["version"] + 1, changed_at=at, changed_by=row["undone_by"] or "system")
    if pairs:
        connection.execute(
            sa.insert(_PAIR),
            [
                {
                    "one_id": one,
                    "two_id": two,
                    "basis": "person" if pair["state"] == "apart" else "number",
                    "reason": "",
                    "changed_by_name": "",
                    **pair,
                }
                for (one, two), pair in pairs.items()
            ],
        )
        connection.execute(sa.insert(_EVENT), events)
    for patient, county in homes.items():
        connection.execute(sa.update(_PATIENT).where(_PATIENT.c.id == patient).values(home_county_id=county))


def downgrade() -> None:
    """Links of before, from what is linked, kept apart or in conflict now; no recognition, no scores."""
    for table in ("image_score", "evaluated_item", "recognition"):
        op.drop_table(table)
    op.create_table(
        "patient_link",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("patient_id", sa.String(length=26), nullable=False),
        sa.Column("other_id", sa.String(length=26), nullable=False),
        sa.Column("from_county_id", sa.String(length=26), nullable=False),
        sa.Column("to_county_id", sa.String(length=26), nullable=False),
        _text("status", 10),
        sa.Column("at", _AT, nullable=False),
        sa.Column("undone_at", _AT, nullable=True),
        _text("undone_by", 26),
        sa.ForeignKeyConstraint(
            ["from_county_id"], ["county_patient.id"], name=op.f("fk_patient_link_from_county_id_county_patient")
        ),
        sa.ForeignKeyConstraint(["other_id"], ["patient.id"], name=op.f("fk_patient_link_other_id_patient")),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name=op.f("fk_patient_link_patient_id_patient")),
        sa.ForeignKeyConstraint(
            ["to_county_id"], ["county_patient.id"], name=op.f("fk_patient_link_to_county_id_county_patient")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_link")),
    )
    op.create_index("ix_patient_link_other_id", "patient_link", ["other_id"])
    op.create_index("ix_patient_link_patient_id", "patient_link", ["patient_id"])
    connection = op.get_bind()
    patients = {row["id"]: row for row in connection.execute(sa.select(_PATIENT)).mappings()}
    back = {"linked": "linked", "apart": "undone", "conflict": "conflict"}
    rows = []
    for pair in connection.execute(sa.select(_PAIR).where(_PAIR.c.state.in_(list(back)))).mappings():
        # The one who left his home is the one who was linked.
        patient, other = pair["two_id"], pair["one_id"]
        if patients[patient]["home_county_id"] in (None, patients[patient]["county_patient_id"]):
            patient, other = other, patient
        apart = pair["state"] == "apart"
        home = patients[patient]["home_county_id"] or patients[patient]["county_patient_id"]
        rows.append(
            {
                "id": pair["id"],
                "patient_id": patient,
                "other_id": other,
                "from_county_id": home,
                "to_county_id": patients[other]["county_patient_id"],
                "status": back[pair["state"]],
                "at": pair["created_at"],
                "undone_at": pair["changed_at"] if apart else None,
                "undone_by": pair["changed_by"] if apart else "",
            }
        )
    if rows:
        connection.execute(sa.insert(_LINK), rows)
    op.execute("ALTER TABLE patient DROP COLUMN home_county_id")
    for table in ("patient_correction", "patient_pair_event", "patient_pair"):
        op.drop_table(table)
