"""TLS at the gateway's port: reading and judging a certificate, serving and renewing it, making one for trials.

The gateway holds this one key and no other: it names the gate, it signs nothing that the press or a reader believes.
"""
