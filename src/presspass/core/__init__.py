"""RULES: values and decisions, pure. No I/O, no clock, no randomness; time and nonces come in as arguments."""
