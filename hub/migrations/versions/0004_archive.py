"""Lossless recompression at rest, and the trash"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.kit.db

revision = "0004"
down_revision = "0003"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANCE = ("original_syntax", "original_size", "recipe_offset", "recipe_size", "stored_sha256", "kept_reason")
_STUDY = ("trashed_at", "trashed_by", "trash_reason", "archived_revision")


def upgrade() -> None:
    """Forward."""
    with op.batch_alter_table("instance") as batch_op:
        batch_op.add_column(sa.Column("original_syntax", sa.String(64), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("original_size", _BIG, nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("recipe_offset", _BIG, nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("recipe_size", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("stored_sha256", sa.String(64), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("kept_reason", sa.String(40), nullable=False, server_default=""))
    with op.batch_alter_table("study") as batch_op:
        batch_op.add_column(sa.Column("trashed_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("trashed_by", sa.String(26), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("trash_reason", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("archived_revision", sa.Integer(), nullable=False, server_default="0"))
    unpacked = sa.text("archived_revision < revision")
    op.create_index(
        "ix_study_unpacked", "study", ["last_instance_at"], sqlite_where=unpacked, postgresql_where=unpacked
    )
    trashed = sa.text("trashed_at IS NOT NULL")
    op.create_index("ix_study_trashed_at", "study", ["trashed_at"], sqlite_where=trashed, postgresql_where=trashed)
    op.create_table(
        "retired_object",
        sa.Column("object_key", sa.String(200), nullable=False),
        sa.Column("at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("object_key", name=op.f("pk_retired_object")),
    )
    op.create_index(op.f("ix_retired_object_at"), "retired_object", ["at"])
    op.create_table(
        "scrubbing",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("last_id", sa.String(26), nullable=False),
        sa.Column("begun_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", hub.kit.db.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scrubbing")),
    )
    op.create_table(
        "concern",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_concern")),
    )


def downgrade() -> None:
    """Back.

    Raises:
        RuntimeError: Originals were recompressed. The older schema could neither name nor rebuild them.
    """
    recompressed = op.get_bind().execute(
        sa.text("SELECT count(*) FROM instance WHERE original_syntax <> '' OR recipe_size <> 0")
    )
    if recompressed.scalar():
        raise RuntimeError("originals were recompressed at rest; bring them back first (hub archive restore)")
    op.drop_table("concern")
    op.drop_table("scrubbing")
    op.drop_index(op.f("ix_retired_object_at"), table_name="retired_object")
    op.drop_table("retired_object")
    op.drop_index("ix_study_trashed_at", table_name="study")
    op.drop_index("ix_study_unpacked", table_name="study")
    # SQLite drops a column in place: making the table anew would fall foul of those that point at it.
    for table, columns in (("study", _STUDY), ("instance", _INSTANCE)):
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
