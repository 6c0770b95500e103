"""Holds credentials and keys, pulls its work; nobody can call it from the network."""
