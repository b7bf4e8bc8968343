"""Sign-ins that failed are kept for a while, so that all workers together limit them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "failed_sign_ins",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(24), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_failed_sign_ins"),
    )
    op.create_index("ix_failed_sign_ins_address_created_at", "failed_sign_ins", ["address", "created_at"])
    op.create_index("ix_failed_sign_ins_created_at", "failed_sign_ins", ["created_at"])
