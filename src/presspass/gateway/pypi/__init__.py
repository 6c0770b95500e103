"""PyPI's legacy upload protocol: what twine, uv, flit, hatch, poetry and pdm speak."""
