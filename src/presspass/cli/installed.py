"""What is installed: `pip install presspass` brings what verifies, the extra `gate` all the rest (ADR 0030)."""

from __future__ import annotations

import importlib.util
from typing import Final

from presspass.cli.exits import NotInstalledError

#: What is imported of the extra `gate`. A test compares it with pyproject.toml.
GATE: Final = (
    *("alembic", "cedarpy", "httptools", "httpx2", "jinja2", "joserfc", "multipart", "rich"),
    *("scim2_models", "securesystemslib", "sqlalchemy", "starlette", "uvicorn", "webauthn", "yaml"),
)


def has(package: str) -> bool:
    """Whether the package could be imported."""
    return importlib.util.find_spec(package) is not None


def require_gate(words: str) -> None:
    """Refuses `presspass <words>` before anything is begun, and not in the midst of it or in a process of its own."""
    missing = next((one for one in GATE if not has(one)), None)
    if missing is not None:
        raise NotInstalledError(
            f"`presspass {words}` needs packages that are not installed here, as {missing}.",
            "Install them: pip install 'presspass[gate]'.",
        )
