"""Which automatic answers were drawn for a person to check; what was answered before was not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("predictions", sa.Column("audit", sa.Boolean, nullable=False, server_default=sa.false()))
