"""What whole files were answered with, and which rows of a run that goes on are recorded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reviewapp.columns import Integer, Json, String, Text

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "scorings",
        sa.Column("id", String(36), primary_key=True),
        sa.Column("started_at", String(24), nullable=False),
        sa.Column("ended_at", String(24), nullable=False),
        sa.Column("release_name", String(64), nullable=False),
        sa.Column("release_version", Integer, nullable=False),
        sa.Column("release_digest", String(71), nullable=False),
        sa.Column("option", String(16), nullable=False),
        sa.Column("actor", Text, nullable=False),
        sa.Column("recorded", String(16), nullable=False),
        sa.Column("files", Json, nullable=False),
        sa.Column("output", Text, nullable=False),
        sa.Column("rows", Integer, nullable=False),
        sa.Column("predictions", Integer, nullable=False),
        sa.Column("problems", Integer, nullable=False),
        sa.Column("review", Integer, nullable=False),
        sa.Column("labels", Json, nullable=False),
        sa.Column("reasons", Json, nullable=False),
        sa.Column("codes", Json, nullable=False),
    )
    op.create_index("ix_scorings_started_at", "scorings", ["started_at"])
    op.create_table(
        "scoring_chunks",
        sa.Column("scoring_id", String(36), primary_key=True),
        sa.Column("row", Integer, primary_key=True),
        sa.Column("prediction_ids", Json, nullable=False),
    )
