"""OPENS HOSTILE ARCHIVES: unpack in memory, compare, find, report.

Runs inside a confined child (presspass.confine); knows no network, no database, no credential, and writes no file.
Other rooms start it with `presspass.confine.worker.Worker`; its output is hostile to them (`findings.parse_report`).
"""
