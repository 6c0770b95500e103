"""Faces the internet; holds no credential and no signing key."""
