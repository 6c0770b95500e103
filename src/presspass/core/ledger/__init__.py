"""The transparency log's mathematics: Merkle tree (RFC 6962) and signed checkpoints (C2SP), without I/O."""
