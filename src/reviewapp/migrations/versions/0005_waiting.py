"""What a person must look at waits from the insert on that records it, whatever recorded it."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(
        "CREATE TRIGGER predictions_wait AFTER INSERT ON predictions WHEN NEW.decision = 'review' OR NEW.audit BEGIN"
        " INSERT INTO queue (prediction_id, why, place) VALUES (NEW.id,"
        " coalesce(json_extract(NEW.reasons, '$[0]'), 'audit'), (SELECT coalesce(max(place), 0) + 1 FROM queue)); END"
    )
