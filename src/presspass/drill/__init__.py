"""Rehearsal: the seeded world, packages wrong in one way, the demo. Holds nothing real."""
