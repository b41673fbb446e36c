"""The same data set by another way is known, other bytes are not, whatever is known of the first file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.data import get_testdata_file
from sqlalchemy import func, select, update

from hub.dicom import reader
from hub.kit import clock
from hub.kit.db import database
from hub.kit.health import Concern
from hub.kit.ids import new_uid
from hub.kit.objects import object_store
from hub.studies import appending, intake, sameness, stored
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import Instance, InstanceHeader, Quarantined
from support.dicom_bytes import element
from support.files import dicom_file

if TYPE_CHECKING:
    from support.world import World


def by_another_way(file: bytes, more: int = 0) -> bytes:
    """The same data set behind another group 0002: with a Sending Application Entity Title, and so many bytes more."""
    offset = reader.read(file).dataset_offset
    head = file[:offset] + element(0x00020017, "AE", b"ELSEWHERE")
    if more:
        head += element(0x00020100, "UI", b"1.2.3\0") + element(0x00020102, "OB", b"x" * more)
    return head + file[offset:]


def take(world: World, *sources: bytes | Path) -> list[Outcome]:
    # The short way looks at nothing that was here before; what is tested is the long one.
    appending.forget()
    return intake.ingest_many(
        world.actor("technologist"), [Incoming(one) for one in sources], org_id=world.orgs["C01"].id, source="web"
    )


def instances() -> list[Instance]:
    with database().reading() as session:
        return list(session.scalars(select(Instance)))


@pytest.mark.parametrize("name", ["CT_small.dcm", "image_dfl.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
@pytest.mark.parametrize("more", [0, reader.MAX_HEAD])
def test_heads_tell_what_hashes_of_data_sets_would(name: str, more: int, tmp_path: Path) -> None:
    file = Path(str(get_testdata_file(name))).read_bytes()
    first, other = (file, by_another_way(file, more)) if more == 0 else (by_another_way(file, more), file)
    one, two = reader.read(first), reader.read(other)
    about: dict[str, Any] = {
        "file_sha256": one.file_sha256, "kept": sameness.kept_head(one), "hashed": sameness.kept_hash(one, first),
    }  # fmt: skip
    assert (about["kept"] is None) == bool(more) == bool(about["hashed"])
    path = tmp_path / "other.dcm"
    path.write_bytes(other)
    assert one.file_sha256 != two.file_sha256
    assert sameness.same(two, other, **about) and sameness.same(two, path, **about)
    changed = other[:-1] + bytes([other[-1] ^ 1])
    assert not sameness.same(reader.read(changed), changed, **about)


@pytest.mark.parametrize("more", [0, reader.MAX_HEAD])
def test_the_same_by_another_way_is_known(world: World, more: int, tmp_path: Path) -> None:
    file = dicom_file()
    assert [one.status for one in take(world, by_another_way(file, more))] == ["stored"]
    path = tmp_path / "a.dcm"
    path.write_bytes(by_another_way(file))
    outcomes = take(world, file, path)
    assert [one.status for one in outcomes] == ["known", "known"]
    assert len(instances()) == 1


def test_an_instance_of_which_only_the_hash_is_kept(world: World) -> None:
    file = dicom_file()
    take(world, file)
    hashed = hashlib.sha256(file[reader.read(file).dataset_offset :]).hexdigest()
    with database().writing() as session:
        session.execute(update(InstanceHeader).values(file_head=None))
        session.execute(update(Instance).values(dataset_sha256=hashed))
    uid = reader.read(file).sop_instance_uid
    other = dicom_file(sop=uid, pixel=5)
    assert [one.status for one in take(world, by_another_way(file), file)] == ["known", "known"]
    assert [(one.status, one.code) for one in take(world, other)] == [("refused", "changed-content")]


@pytest.mark.parametrize("same", [True, False])
def test_what_another_put_here_between_two_looks_is_compared_then(
    world: World, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = {"study": new_uid(), "series": new_uid(), "sop": new_uid()}
    first = dicom_file(**uids)
    second = by_another_way(first) if same else dicom_file(**uids, pixel=3)
    real, looks = intake.Batch._foresee, []

    def too_early(batch: intake.Batch) -> dict[int, Outcome]:
        looks.append(batch)
        found = real(batch)
        if len(looks) == 1:
            take(world, first)
        return found

    monkeypatch.setattr(intake.Batch, "_foresee", too_early)
    (outcome,) = take(world, second)
    assert (outcome.status, outcome.code) == (("known", "") if same else ("refused", "changed-content"))
    assert len(instances()) == 1
    with database().reading() as session:
        assert session.scalar(select(func.count()).select_from(Quarantined)) == int(not same)


def test_a_damaged_original_is_mended_by_the_same_data_set_that_came_another_way(world: World) -> None:
    file = dicom_file()
    take(world, file)
    (row,) = instances()
    object_store().delete(row.object_key)
    with database().writing() as session:
        session.add(Concern(key=row.id, kind="missing", at=clock.now()))
    other = by_another_way(file)
    assert [one.status for one in take(world, other)] == ["known"]
    (row,) = instances()
    assert stored.original_file(row) == other
    # What is compared from now on is the file that lies there now.
    assert [one.status for one in take(world, file, other)] == ["known", "known"]
    assert len(instances()) == 1
