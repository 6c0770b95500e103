"""The demo: the main job, live, in five scenes; exit code 0 only if all of it happened."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from presspass.drill.demo import scenes
from presspass.drill.demo.gate import Gate
from presspass.drill.demo.tell import DemoFailedError, Teller
from presspass.drill.peers import PeerFailedError, PeerMissingError, PypiServer
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.forge import Forge
from presspass.drill.world.issuer import Issuer

FOLDER = Path(".demo")
_REAL_TIME = WorldClock.of_this_machine()


def run(*, keep: bool) -> int:
    """Runs all scenes in `.demo/`, leaves `.demo/out/`, and with `keep` the gate running until Ctrl-C."""
    folder = FOLDER.resolve()
    if folder.exists():
        shutil.rmtree(folder)
    (folder / "out").mkdir(parents=True)
    tell = Teller()
    tell.opening(FOLDER)
    try:
        scenes.before(folder, tell)
        with (
            PypiServer(folder / "registry", "__token__", scenes.ROTATED) as registry,
            Issuer(clock=_REAL_TIME) as issuer,
            Forge(folder / "forge") as forge,
        ):
            gate = Gate(folder, tell)
            repository = forge.repository(*scenes.REPOSITORY.split("/"))
            stage = scenes.Stage(
                folder, folder / "out", tell, gate, registry, issuer, forge, repository
            )
            try:
                _with_gate(stage)
                if keep:
                    _keep(gate, tell)
            finally:
                gate.stop()
    except (
        DemoFailedError,
        PeerMissingError,
        PeerFailedError,
        subprocess.TimeoutExpired,
        OSError,
    ) as error:
        tell.console.print(f"\n[bold red]The demo did not go as told:[/] {type(error).__name__}")
        tell.console.print(str(error), markup=False)
        return 1
    return 0


def _with_gate(stage: scenes.Stage) -> None:
    stage.tell.console.print()
    stage.tell.step(
        "a gate starts: Ana, Ben, Cleo and Dan enrol keys (virtual ones here), compare fingerprints, genesis is sealed;"
    )
    stage.tell.step(
        "the registry's new token goes to the press, sealed; Ben and Cleo sign where it may be used"
    )
    stage.tell.step(
        "and bind the release workflow: by its repository's ids and its content, on tags, in its environment"
    )
    ports = tuple(int(urlsplit(one.url).port or 443) for one in (stage.issuer, stage.forge))
    stage.gate.begin(scenes.PEOPLE, approvals=2, dials=ports, Ana=f"github:{scenes.ANA_ID}")
    stage.gate.add_upstream(
        stage.registry.upload_url, stage.registry.simple_url, scenes.ROTATED, ["Ben", "Cleo"]
    )
    scenes.bind(stage)
    scenes.refused(stage)
    scenes.release(stage)
    scenes.attacks(stage)
    scenes.proofs(stage)
    stage.tell.summary(str(stage.out.relative_to(Path.cwd())))


def _keep(gate: Gate, tell: Teller) -> None:
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(
        signal.SIG_BLOCK, ends
    )  # one that comes before we wait for it must not be lost
    tell.console.print(
        f"\nThe gate is still running. Its console: {gate.console_url()}\nCtrl-C ends it."
    )
    signal.sigwait(ends)
