"""Bodies of store requests as they arrive: what a full disk, a dripping or an endless sender does to them."""

from __future__ import annotations

import asyncio
import json
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from hub.kit.errors import TooLarge, Unavailable
from hub.kit.ids import new_uid
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import assembled, receiving
from hub.protocols.dicomweb.assembled import MetadataReceiver
from hub.protocols.dicomweb.receiving import Part, Receiver
from hub.protocols.dimse import staging
from hub.protocols.dimse.staging import Staged
from hub.studies import intake
from support.files import JSON

if TYPE_CHECKING:
    from support.world import World


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a disk that gets full: a write takes what still fits, and only the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("hub_env")
def test_a_part_of_which_only_the_beginning_fits_is_no_part() -> None:
    async def arrive() -> None:
        part = Part({})
        try:
            with files_of_at_most(receiving.PART_IN_MEMORY + 1000):
                await part.add(b"a" * receiving.PART_IN_MEMORY)
                await part.add(b"b" * 5000)
                await part.finish()
        finally:
            part.release()

    with pytest.raises(Unavailable):
        asyncio.run(arrive())


@pytest.mark.usefixtures("hub_env")
def test_a_body_that_comes_byte_by_byte_weighs_its_bytes() -> None:
    size = 300_000

    async def drip() -> tuple[bytes, int]:
        part, whole = Part({}), bytes(range(256)) * (size // 256 + 1)
        tracemalloc.start()
        for place in range(size):
            await part.add(memoryview(whole)[place : place + 1])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        content = await part.finish()
        part.release()
        assert isinstance(content, bytes)
        assert content == whole[:size]
        return content, peak

    content, peak = asyncio.run(drip())
    assert peak < 4 * len(content) + (2 << 20)


def test_parts_without_end_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "MOST_PARTS", 20)
    receiver = Receiver(world.actor("technologist"), world.orgs["C01"].id, "")

    async def send() -> None:
        try:
            for _number in range(21):
                await receiver.begin({"content-type": "text/plain"})
                await receiver.data(b"x")
                await receiver.end()
        finally:
            await receiver.close()

    with pytest.raises(TooLarge):
        asyncio.run(send())


@pytest.mark.parametrize(("length", "groups"), [(None, 3), (4 * 1000, 1), (100_000, 3)])
def test_a_request_that_fits_is_one_group_and_a_larger_one_has_smaller_ones(
    world: World, monkeypatch: pytest.MonkeyPatch, length: int | None, groups: int
) -> None:
    monkeypatch.setattr(receiving, "GROUP_BYTES", 5000)
    sizes: list[int] = []
    monkeypatch.setattr(receiving._Group, "commit", lambda group, rest: sizes.append(group.count) or [])
    receiver = Receiver(world.actor("technologist"), world.orgs["C01"].id, "", length=length)

    async def send() -> None:
        try:
            for _number in range(5):
                await receiver.begin({"content-type": "application/dicom"})
                await receiver.data(b"x" * 1000)
                await receiver.end()
            await receiver.finish()
        finally:
            await receiver.close()

    asyncio.run(send())
    assert (len(sizes), sum(sizes)) == (groups, 5)


@pytest.mark.parametrize(("most", "megabytes"), [(3, 100), (100, 0)])
def test_metadata_without_end_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int, megabytes: int
) -> None:
    """Five million empty data sets are 16 MB of JSON; a thousand small ones may each refer to the same large pixels."""
    monkeypatch.setattr(assembled, "_MOST_PARTS", most)
    monkeypatch.setattr(get_settings(), "stow_max_request_mb", megabytes)
    item = {"00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]}}
    items = [{**item, "00080018": {"vr": "UI", "Value": [new_uid()]}} for _number in range(6)]

    async def send() -> int:
        receiver = MetadataReceiver(world.actor("technologist"), world.orgs["C01"].id, "", media=JSON, base="http://h/")
        try:
            await receiver.begin({"content-type": JSON})
            await receiver.data(json.dumps(items).encode())
            await receiver.end()
            await receiver.finish()
        finally:
            await receiver.close()
        return len(receiver.outcomes)

    with pytest.raises(TooLarge):
        asyncio.run(send())


@pytest.mark.usefixtures("hub_env")
def test_the_room_that_is_kept_for_the_database_is_not_staged_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body without a length passes every look at the room that is made before it."""

    async def arrive() -> None:
        part = Part({})
        try:
            for _megabyte in range(8):
                await part.add(b"a" * (1 << 20))
        finally:
            part.release()

    def fill(_view: memoryview) -> None:
        """Zeros."""

    monkeypatch.setattr(staging, "_LOOK", 1 << 20)
    begun, late = Staged(b"head", most=1 << 30), Staged(b"head", most=1 << 30)
    late.take(fill, 4 << 20)
    monkeypatch.setattr(get_settings(), "min_free_mb", 10**9)
    with pytest.raises(Unavailable):
        asyncio.run(arrive())
    for staged in (begun, late):
        staged.take(fill, 4 << 20)
        assert staged.no_room
    assert list(intake.staging().iterdir()) == []
