"""DIMSE devices"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.kit.db

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """The table of devices."""
    op.create_table(
        "device",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("org_id", sa.String(length=26), nullable=False),
        sa.Column("aet", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=43), nullable=False),
        sa.Column("certificate", sa.String(length=64), nullable=False),
        sa.Column("stores", sa.Boolean(), nullable=False),
        sa.Column("queries", sa.Boolean(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("tls", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", hub.kit.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=26), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organisation.id"], name=op.f("fk_device_org_id_organisation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("aet", "address", "certificate", name=op.f("uq_device_aet_address_certificate")),
    )
    with op.batch_alter_table("device") as batch:
        batch.create_index(batch.f("ix_device_org_id"), ["org_id"], unique=False)


def downgrade() -> None:
    """Without devices."""
    op.drop_table("device")
