"""Composition roots: one small file a process."""
