"""Smaller indexes: of what most rows have, nothing is written down. Each request writes four pages less."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for table, name, columns, kept in (
        ("predictions", "ix_predictions_reference_seq", ["reference", "seq"], "reference IS NOT NULL"),
        ("predictions", "ix_predictions_option_seq", ["option", "seq"], "option = 'baseline'"),
        ("predictions", "ix_predictions_audit_seq", ["audit", "seq"], "audit = 1"),
        ("queue", "ix_queue_leased_to", ["leased_to"], "leased_to IS NOT NULL"),
    ):
        op.drop_index(name, table)
        op.create_index(name, table, columns, sqlite_where=sa.text(kept))
