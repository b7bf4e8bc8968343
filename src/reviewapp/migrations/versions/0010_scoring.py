"""What whole files were answered with, and which rows of a run that goes on are recorded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "scorings",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("started_at", sa.String(24), nullable=False),
        sa.Column("ended_at", sa.String(24), nullable=False),
        sa.Column("release_name", sa.String(64), nullable=False),
        sa.Column("release_version", sa.Integer, nullable=False),
        sa.Column("release_digest", sa.String(71), nullable=False),
        sa.Column("option", sa.String(16), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("recorded", sa.String(16), nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("predictions", sa.Integer, nullable=False),
        sa.Column("problems", sa.Integer, nullable=False),
        sa.Column("review", sa.Integer, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("codes", sa.JSON, nullable=False),
    )
    op.create_index("ix_scorings_started_at", "scorings", ["started_at"])
    op.create_table(
        "scoring_chunks",
        sa.Column("scoring_id", sa.String(36), primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("prediction_ids", sa.JSON, nullable=False),
    )
