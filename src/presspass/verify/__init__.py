"""The checks, usable alone and offline. Never imports store."""
