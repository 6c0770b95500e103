"""The package builders, under the name tests use; the demo needs them too, so they live in presspass.drill."""

from presspass.drill.packages import *  # noqa: F403 - a test-side alias of the whole module
