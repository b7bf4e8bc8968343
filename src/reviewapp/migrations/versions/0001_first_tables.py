"""The first tables: predictions, verdicts, release log, retries, tokens, sign-in, and the row readiness writes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "predictions",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.Column("release_name", sa.String(64), nullable=False),
        sa.Column("release_version", sa.Integer, nullable=False),
        sa.Column("release_digest", sa.String(71), nullable=False),
        sa.Column("option", sa.String(16), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("reference", sa.Text),
        sa.Column("input", sa.JSON),
        sa.Column("output", sa.JSON, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.Column("comparison", sa.JSON),
        sa.Column("explanation", sa.JSON),
    )
    op.create_index("ix_predictions_reference", "predictions", ["reference"])
    op.create_index("ix_predictions_created_at", "predictions", ["created_at"])
    op.create_table(
        "verdicts",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("prediction_seq", sa.Integer, sa.ForeignKey("predictions.seq"), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("value", sa.Float),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(24), nullable=False),
    )
    op.create_index("ix_verdicts_prediction_seq_seq", "verdicts", ["prediction_seq", "seq"])
    op.create_table(
        "release_events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(24), nullable=False),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("prediction_ids", sa.JSON, nullable=False),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.UniqueConstraint("client", "key"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.Column("expires_at", sa.String(24)),
        sa.Column("revoked_at", sa.String(24)),
    )
    op.create_table(
        "sign_in_links",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("expires_at", sa.String(24), nullable=False),
        sa.Column("used_at", sa.String(24)),
    )
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("token_id", sa.String(36), sa.ForeignKey("tokens.id")),
        sa.Column("expires_at", sa.String(24), nullable=False),
        sa.Column("ended_at", sa.String(24)),
    )
    op.create_table(
        "probe",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("written_at", sa.String(24)),
    )
