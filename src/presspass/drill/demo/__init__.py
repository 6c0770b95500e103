"""The demo: the main job, live, in five scenes; exit code 0 only if all of it happened."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from presspass.drill.demo import scenes
from presspass.drill.demo.gate import Gate
from presspass.drill.demo.tell import DemoFailedError, Teller
from presspass.drill.peers import PeerFailedError, PeerMissingError, PypiServer

FOLDER = Path(".demo")


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
        with PypiServer(folder / "registry", "__token__", scenes.ROTATED) as registry:
            gate = Gate(folder, tell)
            try:
                _with_gate(scenes.Stage(folder, folder / "out", tell, gate, registry))
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
    stage.gate.begin(scenes.PEOPLE, approvals=2)
    stage.gate.add_upstream(
        stage.registry.upload_url, stage.registry.simple_url, scenes.ROTATED, ["Ben", "Cleo"]
    )
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
