"""`hub run` with the DIMSE service: it stores, it comes back when it dies, and a taken port is said in a sentence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pynetdicom import AE, build_context

from support.dimse import CT, ct, listening
from support.running import RunningHub, free_port, hub, hub_environment

pytestmark = [pytest.mark.slow]


def store(port: int, aet: str) -> int | None:
    """Send one image; the status, or None where nobody is there."""
    ae = AE(ae_title=aet)
    # The supervisor holds the port before the server that answers has come up.
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 90
    target = ae.associate("127.0.0.1", port, contexts=[build_context(CT, "1.2.840.10008.1.2.1")], ae_title="HUB")
    if not target.is_established:
        return None
    answer = target.send_c_store(ct())
    target.release()
    return int(answer.Status)


def test_the_whole_hub_stores_for_the_sample_county(tmp_path: Path) -> None:
    port = free_port()
    running = RunningHub(tmp_path / "hub", environment={"dimse_port": port, "dimse_processes": 1})
    try:
        running.start()
        until = time.monotonic() + 60
        while "dimse" not in running.children():
            assert time.monotonic() < until, "no DIMSE server was started"
            time.sleep(0.1)
        assert store(port, "C01") == 0x0000
        assert store(port, "STORESCU") == 0x0000
        assert store(port, "NOBODY") is None
        before = running.children()["dimse"].pid
        running.kill("dimse")
        until = time.monotonic() + 60
        while not running.started_again("dimse", before):
            assert time.monotonic() < until, "the DIMSE server was not started again"
            time.sleep(0.1)
        # The supervisor kept the port: whoever calls meanwhile waits.
        assert listening(port) and store(port, "C02") == 0x0000
        other = hub_environment(tmp_path / "other", http_port=free_port(), dimse_port=port)
        (tmp_path / "other").mkdir()
        refused = hub("run", env=other)
        assert refused.returncode == 2 and f"Port {port} is taken" in refused.stderr
        assert "HUB_DIMSE_PORT" in refused.stderr
        added = running.hub("device", "add", "--org", "C03", "--aet", "NEWCT", "--address", "127.0.0.1")
        assert added.returncode == 0, added.stderr
        assert store(port, "NEWCT") == 0x0000
        rows = {one["aet"]: one for one in json.loads(running.hub("device", "list", "--json").stdout)}
        assert rows["NEWCT"]["org"] == "C03" and rows["H01"]["queries"] and rows["C01"]["accepted"]
        assert running.hub("device", "remove", rows["NEWCT"]["id"]).returncode == 0
        assert store(port, "NEWCT") is None
        taken = running.hub("device", "add", "--org", "C04", "--aet", "C05")
        assert taken.returncode == 1 and "C05" in taken.stderr
        assert "NEWCT" not in running.hub("device", "list").stdout
    finally:
        running.stop()
    assert not listening(port)
