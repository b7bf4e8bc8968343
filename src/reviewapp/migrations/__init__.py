"""Alembic's steps from one schema to the next, each applied once and in its own order."""
