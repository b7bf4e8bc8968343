"""The chain over what is appended, and purges; all that is there already gets one first link a table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reviewapp.chain import append_link

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("predictions", sa.Column("salt", sa.LargeBinary))
    op.add_column("predictions", sa.Column("seal", sa.LargeBinary))
    op.add_column("verdicts", sa.Column("salt", sa.LargeBinary))
    op.create_table(
        "links",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("seal", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "purges",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("selection", sa.JSON, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.create_table(
        "purged",
        sa.Column("purge_seq", sa.Integer, sa.ForeignKey("purges.seq"), primary_key=True),
        sa.Column("what", sa.String(16), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_purged_what_seq", "purged", ["what", "seq"], unique=True)
    for what in ("release_events", "predictions", "verdicts"):
        append_link(op.get_bind(), what, 0, later=False)
    op.execute(
        "CREATE TRIGGER predictions_link AFTER INSERT ON predictions WHEN NEW.seal IS NOT NULL BEGIN"
        " INSERT INTO links (what, last, seal, hash) VALUES ('predictions', NEW.seq, NEW.seal,"
        " link_hash((SELECT hash FROM links ORDER BY seq DESC LIMIT 1), 'predictions', NEW.seq, NEW.seal)); END"
    )
