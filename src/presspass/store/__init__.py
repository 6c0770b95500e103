"""One database per process and one folder of blobs: durable writes, and nothing about what they mean."""
