"""Fetches the git objects of a workflow from the repository that a signed publisher statement names.

It dials nothing that a claim, a token or a request names: the caller hands in the address of the statement.
"""
