"""The tables of the ledger, as the newest migration leaves them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from .columns import Boolean, Float, Integer, Json, String, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _only(rows: str) -> dict[str, Any]:
    """Return the options of an index that has only some rows, for each kind of database."""
    return {f"{dialect}_where": text(rows) for dialect in ("sqlite", "postgresql")}


predictions = Table(
    "predictions",
    metadata,
    Column("seq", Integer, primary_key=True),  # the order that holds: a clock may jump
    Column("id", String(36), nullable=False, unique=True),
    Column("created_at", String(24), nullable=False),
    Column("release_name", String(64), nullable=False),
    Column("release_version", Integer, nullable=False),
    Column("release_digest", String(71), nullable=False),
    Column("option", String(16), nullable=False),
    Column("source", String(16), nullable=False),
    Column("client", Text, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("reference", Text),
    Column("input", Json),
    Column("output", Json, nullable=False),
    Column("label", Text),
    Column("decision", String(16), nullable=False),
    Column("reasons", Json, nullable=False),
    Column("warnings", Json, nullable=False),
    Column("comparison", Json),
    Column("explanation", Json),
    Column("audit", Boolean, nullable=False, server_default=text("0")),
    Column("doubt", Float),  # how far the answer is from being sure: 1 - confidence, or the width of the interval
    Column("salt", LargeBinary),  # random: it makes the digest that stays of an erased request useless for guessing
    Column("seal", LargeBinary),  # of the last row of each commit: over all of its rows (chain.py)
    # what History filters and sorts by; each ends with the row's own number, which is the order of the pages
    *(Index(None, name, "seq") for name in ("label", "decision", "source", "doubt")),
    # each row writes to each index, so those of what hardly any row has leave the others out
    Index(None, "reference", "seq", **_only("reference IS NOT NULL")),
    Index(None, "option", "seq", **_only("option = 'baseline'")),
    Index(None, "audit", "seq", **_only("audit = 1")),
    Index(None, "created_at", "seq"),
    Index(None, "release_digest", "seq", "decision", "audit"),  # monitoring counts in the index alone
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("prediction_seq", ForeignKey(predictions.c.seq), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("label", Text),
    Column("value", Float),
    Column("reasons", Json, nullable=False),
    Column("note", Text),
    Column("author", Text, nullable=False),
    Column("created_at", String(24), nullable=False),
    Column("blind", Boolean, nullable=False, server_default=text("0")),  # given before the options were seen
    Column("salt", LargeBinary),
    Index(None, "prediction_seq", "seq"),
    Index(None, "verdict", "prediction_seq"),
    Index(None, "author", "created_at"),
)

# What waits for a person, each record once. It can be told from the two tables above; it is kept, so that the next
# record is found at once. `place` is the order; a lease gives a record to one reviewer for a while. A prediction that a
# person must look at is put behind all others by the insert that records it, through the trigger `predictions_wait`: a
# migration that makes the table of predictions anew (as batch mode does) loses it, and must make it again at its end.
queue = Table(
    "queue",
    metadata,
    Column("prediction_id", ForeignKey(predictions.c.id), primary_key=True),
    Column("why", String(32), nullable=False),  # the first reason of the decision, or `audit`
    Column("place", Integer, nullable=False),
    Column("leased_to", Text),
    Column("leased_until", String(24)),
    Index(None, "place"),
    Index(None, "leased_to", **_only("leased_to IS NOT NULL")),
    Index(None, "why"),
)

# Who opened a waiting record blind: what the options say is hidden from them until it is judged, also once they gave
# it up.
blind_openings = Table(
    "blind_openings",
    metadata,
    Column("reviewer", Text, primary_key=True),
    Column("prediction_id", ForeignKey(predictions.c.id), primary_key=True),
    Index(None, "prediction_id"),
)

# A file that was sent on the Upload page: its rows as they came, and what became of each. `answered` counts the rows
# that are done, from the first on; it changes in the same commit as what these rows were answered with.
uploads = Table(
    "uploads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("created_at", String(24), nullable=False),
    Column("release_digest", String(71), nullable=False),
    Column("task", String(16), nullable=False),  # of its outcome: which columns the answers have
    Column("delimiter", String(1), nullable=False),
    Column("header", Json, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("summary", Json, nullable=False),
    Index(None, "client", "created_at"),
    Index(None, "created_at"),
)

upload_rows = Table(
    "upload_rows",
    metadata,
    Column("upload_id", ForeignKey(uploads.c.id), primary_key=True),
    Column("row", Integer, primary_key=True),  # from 1 on
    Column("line", Integer, nullable=False),  # of the file, where the row begins
    Column("cells", Json, nullable=False),
    Column("prediction_id", ForeignKey(predictions.c.id)),
    Column("problem", Text),
    Index(None, "upload_id", "row", **_only("problem IS NOT NULL")),
)

release_events = Table(
    "release_events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),  # built, promoted, rolled_back, fell_back, alerted
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", String(24), nullable=False),
    Column("breaking", Boolean, nullable=False, server_default=text("0")),
    Column("differences", Json),
    Column("figures", Json),  # of a move: the last prediction before it, and what led to it
)

# What one process at a time does every so often: until when the last one has it for itself, and what it found.
rounds = Table(
    "rounds",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("until", String(24), nullable=False),
    Column("found_at", String(24)),
    Column("found", Json),
)

# What came in each minute, of the last month: how many requests, how many of them failed, were rejected, took too long,
# and how long they took (counts of the buckets of the histogram).
minutes = Table(
    "minutes",
    metadata,
    Column("minute", String(24), primary_key=True),
    Column("requests", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("slow", Integer, nullable=False),
    Column("latency", Json, nullable=False),
)

# The chain over what is appended: one link a commit and table, with a hash over the link before. That of predictions is
# written by the insert itself, through the trigger `predictions_link`; what `predictions_wait` asks for, it does, too.
links = Table(
    "links",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("what", String(16), nullable=False),  # the name of a table
    Column("last", Integer, nullable=False),  # the number of the commit's last row in it
    Column("seal", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# What was erased when, by whom and why, and what: each row with the digest of its erased columns, which stays.
purges = Table(
    "purges",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("created_at", String(24), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("selection", Json, nullable=False),
    Column("digest", String(64), nullable=False),  # over its rows in `purged`
)

purged = Table(
    "purged",
    metadata,
    Column("purge_seq", ForeignKey(purges.c.seq), primary_key=True),
    Column("what", String(16), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Index(None, "what", "seq", unique=True),
    sqlite_with_rowid=False,
)

# What whole files were answered with by `reviewapp score`, counted: a row a run.
scorings = Table(
    "scorings",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("started_at", String(24), nullable=False),
    Column("ended_at", String(24), nullable=False),
    Column("release_name", String(64), nullable=False),
    Column("release_version", Integer, nullable=False),
    Column("release_digest", String(71), nullable=False),
    Column("option", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("recorded", String(16), nullable=False),  # summary: this row alone; all: each answer is a prediction, too
    Column("files", Json, nullable=False),  # the name, size, digest and rows of each
    Column("output", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("predictions", Integer, nullable=False),
    Column("problems", Integer, nullable=False),
    Column("review", Integer, nullable=False),  # of the predictions, those with this decision
    Column("labels", Json, nullable=False),  # how many of each
    Column("reasons", Json, nullable=False),
    Column("codes", Json, nullable=False),  # of the problems
    Index(None, "started_at"),
)

# Which rows of a run that has not ended are recorded: some of its rows, from this one on, in the order of the rows.
scoring_chunks = Table(
    "scoring_chunks",
    metadata,
    Column("scoring_id", String(36), primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("prediction_ids", Json, nullable=False),  # null where the model failed
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("prediction_ids", Json, nullable=False),
    Column("created_at", String(24), nullable=False),
    UniqueConstraint("client", "key"),
    Index(None, "created_at"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", String(24), nullable=False),
    Column("expires_at", String(24)),
    Column("revoked_at", String(24)),
)

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("expires_at", String(24), nullable=False),
    Column("used_at", String(24)),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("token_id", ForeignKey(tokens.c.id)),  # a session lives no longer than the token it was opened with
    Column("expires_at", String(24), nullable=False),
    Column("ended_at", String(24)),
)

# Sign-ins that failed, of late: how many there may be is limited for all workers together.
failed_sign_ins = Table(
    "failed_sign_ins",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("address", Text, nullable=False),
    Column("created_at", String(24), nullable=False),
    Index(None, "address", "created_at"),
    Index(None, "created_at"),
)

probe = Table("probe", metadata, Column("id", Integer, primary_key=True), Column("written_at", String(24)))
