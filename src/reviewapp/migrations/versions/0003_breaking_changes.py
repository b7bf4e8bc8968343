"""What a move of the live release changed in the contract, and whether that broke callers; of older moves not known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("release_events", sa.Column("breaking", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("release_events", sa.Column("differences", sa.JSON))
