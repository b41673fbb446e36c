"""40 readers and 500 exams at a running hub, through HTTP: `python -m tests.simulation`.

Starts a hub of its own (`hub run`), lets readers, clinics and a director work carelessly until nothing waits, and then
asks the database whether an exam was signed twice, lost or left leased, and whether every acknowledged word is there.
Figures are printed; the exit status is 1 where anything is wrong. HUB_TEST_STACK=server: on PostgreSQL, Redis and S3.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=40)
    parser.add_argument("--exams", type=int, default=500)
    parser.add_argument("--lease", type=float, default=15, help="seconds of a lease without a heartbeat")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=1800, help="seconds after which it is given up")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--step", choices=("seed", "judge"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _seed(asked: argparse.Namespace) -> None:
    """In a process with the hub's own settings: write the county, print it."""
    from simulation.county import seed

    print(json.dumps(seed(asked.readers, asked.exams, chance=random.Random(asked.seed)).to_json()))


def _judge() -> None:
    """In a process with the hub's own settings: read the ledger, print what is wrong."""
    from hub.kit.db import database
    from simulation.actors import Ledger
    from simulation.verdict import faults

    given = json.load(sys.stdin)
    ledger = Ledger(
        texts=[tuple(one) for one in given["texts"]],
        signed=[tuple(one) for one in given["signed"]],
        answers=[tuple(one) for one in given["answers"]],
        messages=[tuple(one) for one in given["messages"]],
        broken=given["broken"],
    )
    with database().reading() as session:
        print(json.dumps(faults(session, given["exams"], ledger)))


def main() -> int:
    """Play, judge, print."""
    asked = arguments()
    if asked.step == "seed":
        _seed(asked)
        return 0
    if asked.step == "judge":
        _judge()
        return 0
    from simulation.actors import Habits
    from simulation.county import County
    from simulation.play import play
    from support.running import RunningHub

    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="hub-simulation-") as folder:
        hub = RunningHub(
            Path(folder) / "var", sample=False, environment={"lease_minutes": asked.lease / 60, "web_processes": 2}
        )

        def step(name: str, given: str | None = None) -> str:
            command = [sys.executable, "-m", "tests.simulation", "--step", name]
            command += ["--readers", str(asked.readers), "--exams", str(asked.exams), "--seed", str(asked.seed)]
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=hub.env | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
                input=given,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            return done.stdout.strip().splitlines()[-1]

        try:
            hub.start()
            county = County(**json.loads(step("seed")))
            begun = time.monotonic()
            habits = Habits(lease_seconds=asked.lease)
            ledger = play(
                hub.url,
                county,
                habits,
                chance=chance,
                within=asked.within,
                say=lambda line: print(f"{time.monotonic() - begun:6.0f} s  {line}", flush=True),
            )
            took = time.monotonic() - begun
            # What a page held that was closed at the end is given back by the sweep, which runs every ten seconds.
            time.sleep(asked.lease + 15)
            given = {
                "exams": county.exams,
                "texts": ledger.texts,
                "signed": ledger.signed,
                "answers": ledger.answers,
                "messages": ledger.messages,
                "broken": ledger.broken,
            }
            wrong = json.loads(step("judge", json.dumps(given)))
        finally:
            hub.stop()
    figures = {
        "readers": asked.readers,
        "exams": asked.exams,
        "seconds": round(took, 1),
        "signed": len({exam for exam, _number in ledger.signed}),
        "texts_acknowledged": len(ledger.texts),
        "deeds": dict(sorted(ledger.deeds.items())),
        "refused": dict(sorted(ledger.refused.items())),
        "requests": {
            what: {
                "n": len(times),
                "p50_ms": round(1000 * sorted(times)[len(times) // 2]),
                "p95_ms": round(1000 * sorted(times)[int(len(times) * 0.95)]),
            }
            for what, times in sorted(ledger.seconds.items())
        },
        "wrong": wrong,
    }
    print(json.dumps(figures, ensure_ascii=False, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(figures, ensure_ascii=False, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
