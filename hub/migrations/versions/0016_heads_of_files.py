"""What stands before the data set of each new instance

Instances of before keep the hash of their data set instead. On the way back there is neither for those that came
meanwhile: sent again they would be refused as changed, and kept in quarantine.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Forward."""
    op.add_column("instance_header", sa.Column("file_head", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Back."""
    op.drop_column("instance_header", "file_head")
