"""Migrations of the gateway database."""
