"""What led to a move, what one process does every so often, and what came in each minute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("release_events", sa.Column("figures", sa.JSON))
    op.create_table(
        "rounds",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("until", sa.String(24), nullable=False),
        sa.Column("found_at", sa.String(24)),
        sa.Column("found", sa.JSON),
    )
    op.create_table(
        "minutes",
        sa.Column("minute", sa.String(24), primary_key=True),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("rejected", sa.Integer, nullable=False),
        sa.Column("slow", sa.Integer, nullable=False),
        sa.Column("latency", sa.JSON, nullable=False),
    )
