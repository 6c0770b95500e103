"""Alembic scripts, one folder per database. They run against the previous release's data and only add."""
