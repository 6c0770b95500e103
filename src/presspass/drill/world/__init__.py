"""A seeded world on loopback: a registry, an issuer, a forge and a clock that do what a test asks, faults included.

Real programs stay the judges of the protocols; this world is for faults, speed and repeatable runs. The same seed
gives the same keys, tokens, commits and wrong bytes. Standard library and `cryptography` only; the forge needs git.
"""

from presspass.drill.world.clock import WorldClock
from presspass.drill.world.forge import Forge
from presspass.drill.world.issuer import Issuer
from presspass.drill.world.registry import Door, Outcome, Registry, Upload
from presspass.drill.world.runner import GithubJob, Runner

__all__ = [
    "Door",
    "Forge",
    "GithubJob",
    "Issuer",
    "Outcome",
    "Registry",
    "Runner",
    "Upload",
    "WorldClock",
]
