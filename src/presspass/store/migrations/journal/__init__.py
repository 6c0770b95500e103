"""Migrations of the journal database."""
