"""Asks veraPDF whether files are PDF/A-2b: `python run.py FILE…`, or `pdfa_problems` from a test.

Needs Java 11 or later and Maven; the validator is fetched once into a folder of the user's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

VERSION = "1.26.2"
HERE = Path(__file__).resolve().parent


class VeraPdfMissing(RuntimeError):
    """Java or Maven is not installed, or the validator cannot be fetched."""


def classpath() -> str:
    """Class path of the validator, fetched if it is not in the cache."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise VeraPdfMissing(f"{tool} is not installed")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "county-imaging-hub"
    target = base / f"verapdf-{VERSION}"
    if not target.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        # Beside the target and renamed whole, so that two test processes cannot see half of it.
        with tempfile.TemporaryDirectory(dir=base) as scratch:
            jars = Path(scratch) / "jars"
            command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
            done = subprocess.run(
                [*command, f"-DoutputDirectory={jars}"], capture_output=True, text=True, timeout=240, check=False
            )
            if done.returncode or not jars.is_dir():
                raise VeraPdfMissing(f"Maven could not fetch veraPDF: {done.stdout[-300:]}")
            try:
                jars.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    return str(target / "*")


def pdfa_problems(files: Sequence[Path]) -> dict[Path, list[str]]:
    """The PDF/A-2b rules that each file breaks; an empty list is a compliant file."""
    command = ["java", "-cp", classpath(), str(HERE / "Validate.java"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("PASS ", "FAIL ", "RULE ", "END"))]
    if not lines or lines[-1] != "END":
        raise RuntimeError(f"veraPDF ended early: {done.stderr[-500:]}")
    out: dict[Path, list[str]] = {}
    current: list[str] = []
    for line in lines[:-1]:
        kind, _, rest = line.partition(" ")
        if kind == "RULE":
            current.append(rest)
        else:
            current = out.setdefault(Path(rest), [])
            if kind == "FAIL":
                current.append("not compliant")
    return out


if __name__ == "__main__":
    problems = pdfa_problems([Path(name) for name in sys.argv[1:]])
    for path, rules in problems.items():
        print(path, "PDF/A-2b" if not rules else "; ".join(rules))
    sys.exit(any(problems.values()))
