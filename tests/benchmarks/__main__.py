"""Speeds of the hub beside others in the same run: `make bench`, or `python -m tests.benchmarks`.

core      the imaging core against Orthanc with DICOMweb: the table of docs/benchmarks.md
arrival   a clinic's upload on its way to the queue, against a plain file server
queue     pulling the next exam at 100,000 exams, against an empty page
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# Which stack the helpers use is read from the environment when they are imported; the core starts servers itself.
STACK = "server" if os.environ.get("HUB_TEST_STACK") == "server" else "embedded"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="core", choices=("core", "arrival", "queue"))
    parser.add_argument(
        "--stack", choices=("embedded", "server"), default=STACK, help="what the hub and its peer keep their data in"
    )
    parser.add_argument(
        "--only",
        default="",
        help="loads of the core, by comma (cstore,stow,frames,rest,metadata,viewer,qido,memory,million)",
    )
    parser.add_argument("--quick", action="store_true", help="little of everything: shows that it runs")
    parser.add_argument("--repeats", type=int, help="readings of each side")
    parser.add_argument(
        "--images", type=Path, help="folder of the raw CT to send; else the sample beside the clone, or a generated one"
    )
    parser.add_argument("--json", type=Path, help="write all readings there")
    parser.add_argument(
        "--markdown", type=Path, help="write the table there, between the marks of its section (- for the terminal)"
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print a table; 1 where a load failed or cannot be played here."""
    chosen = arguments()
    about: dict[str, Any] = {}
    if chosen.what == "core":
        os.environ["HUB_TEST_STACK"] = chosen.stack
        found = _core(chosen)
        if found is None:
            return 1
        rows, about = found
    elif chosen.what == "queue":
        from tests.benchmarks import pulling

        rows = pulling.play(chosen.repeats or 40, quick=chosen.quick)
    else:
        from tests.benchmarks import arrival

        rows = arrival.play(chosen.repeats or (1 if chosen.quick else 3))
    from tests.benchmarks.rows import markdown, renew, write_json

    if chosen.json:
        write_json(chosen.json, chosen.stack, rows, **about)
    table = markdown(rows, **about)
    if chosen.markdown and str(chosen.markdown) == "-":
        print(table)
    elif chosen.markdown:
        renew(chosen.markdown, f"{chosen.what} {chosen.stack}", table)
    return 1 if about.get("failed") else 0


def _core(chosen: argparse.Namespace) -> Any:
    from dataclasses import replace

    from support import orthanc
    from tests.benchmarks import loads
    from tests.benchmarks.core import PARTS, Sizes, play

    wanting = [*loads.missing(), *([orthanc.missing()] if orthanc.missing() else [])]
    if chosen.stack == "server" and orthanc.plugin("OrthancPostgreSQLIndex") is None:
        wanting.append("Orthanc's PostgreSQL plugin")
    if wanting:
        print(
            f"not installed here: {', '.join(wanting)} (`.ci/services install benchmarks` brings them)", file=sys.stderr
        )
        return None
    parts = [part for part in chosen.only.split(",") if part] or list(PARTS)
    unknown = set(parts) - set(PARTS)
    if unknown:
        print(f"no such load: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return None
    sizes = Sizes.quick() if chosen.quick else Sizes()
    if chosen.repeats:
        sizes = replace(sizes, repeats=chosen.repeats)
    return play(chosen.stack, parts, sizes, images=chosen.images)


if __name__ == "__main__":
    sys.exit(main())
