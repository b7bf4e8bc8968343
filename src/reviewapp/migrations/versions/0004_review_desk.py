"""The review desk: the queue, blind verdicts, uploads, and what History filters, sorts and searches by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_FILTERED = ("label", "decision", "source", "option", "audit", "reference", "doubt")


def upgrade() -> None:
    op.add_column("predictions", sa.Column("doubt", sa.Float))
    op.execute(
        "UPDATE predictions SET doubt = CASE WHEN label IS NOT NULL THEN 1 - json_extract(output, '$.confidence')"
        " ELSE json_extract(output, '$.high') - json_extract(output, '$.low') END"
    )
    op.drop_index("ix_predictions_reference", "predictions")
    op.drop_index("ix_predictions_created_at", "predictions")
    for name in (*_FILTERED, "created_at"):
        op.create_index(f"ix_predictions_{name}_seq", "predictions", [name, "seq"])
    op.create_index(
        "ix_predictions_release_digest_seq_decision_audit",
        "predictions",
        ["release_digest", "seq", "decision", "audit"],
    )
    op.add_column("verdicts", sa.Column("blind", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("ix_verdicts_verdict_prediction_seq", "verdicts", ["verdict", "prediction_seq"])
    op.create_index("ix_verdicts_author_created_at", "verdicts", ["author", "created_at"])
    op.create_table(
        "queue",
        sa.Column("prediction_id", sa.String(36), sa.ForeignKey("predictions.id"), primary_key=True),
        sa.Column("why", sa.String(32), nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("leased_to", sa.Text),
        sa.Column("leased_until", sa.String(24)),
    )
    for name in ("place", "leased_to", "why"):
        op.create_index(f"ix_queue_{name}", "queue", [name])
    op.execute(
        "INSERT INTO queue (prediction_id, why, place)"
        " SELECT id, coalesce(json_extract(reasons, '$[0]'), 'audit'), seq FROM predictions"
        " WHERE (decision = 'review' OR audit) AND coalesce((SELECT verdict FROM verdicts"
        " WHERE prediction_seq = predictions.seq ORDER BY verdicts.seq DESC LIMIT 1), 'withdrawn') = 'withdrawn'"
    )
    op.create_table(
        "blind_openings",
        sa.Column("reviewer", sa.Text, primary_key=True),
        sa.Column("prediction_id", sa.String(36), sa.ForeignKey("predictions.id"), primary_key=True),
    )
    op.create_index("ix_blind_openings_prediction_id", "blind_openings", ["prediction_id"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.Column("release_digest", sa.String(71), nullable=False),
        sa.Column("task", sa.String(16), nullable=False),
        sa.Column("delimiter", sa.String(1), nullable=False),
        sa.Column("header", sa.JSON, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
    )
    op.create_index("ix_uploads_client_created_at", "uploads", ["client", "created_at"])
    op.create_index("ix_uploads_created_at", "uploads", ["created_at"])
    op.create_table(
        "upload_rows",
        sa.Column("upload_id", sa.String(36), sa.ForeignKey("uploads.id"), primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("cells", sa.JSON, nullable=False),
        sa.Column("prediction_id", sa.String(36), sa.ForeignKey("predictions.id")),
        sa.Column("problem", sa.Text),
    )
    op.create_index(
        "ix_upload_rows_upload_id_row",
        "upload_rows",
        ["upload_id", "row"],
        sqlite_where=sa.text("problem IS NOT NULL"),
    )
    # the words of requests, by the row's number; filled when somebody searches (search.py)
    op.execute(
        "CREATE VIRTUAL TABLE words USING fts5(text, content='', contentless_delete=1,"
        " tokenize='unicode61 remove_diacritics 2', prefix='1 2')"
    )
