"""The transparency log without I/O: Merkle tree (RFC 6962), tiles, signed notes, checkpoints, cosignatures (C2SP)."""
