"""The command line: `presspass ...`."""
