"""Envelopes for secrets. Only press, services and cli may import it."""
