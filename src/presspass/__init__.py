"""Presspass, the gate in front of registries: nothing goes out that people have not signed."""

__version__ = "0.1.0"
