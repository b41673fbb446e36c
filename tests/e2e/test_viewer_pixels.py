"""What OHIF shows is what the device sent: pixels in the viewer against pydicom's, native and as kept at rest.

The images are pydicom's own or generated.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError as Hung
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, generate_uid
from sqlalchemy import select

from benchmarks.viewer import CHROMIUM, browser
from hub.accounts.sessions import SESSION_COOKIE
from hub.dicom.codecs import frame_of
from hub.dicom.phantoms import PhantomPatient, generate
from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants
from hub.studies import intake, recompression
from hub.studies.intake import Incoming
from hub.studies.models import Instance, Study
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

HTJ2K = "1.2.840.10008.1.2.4.201"
# Words of the browser about itself; everything else on the console is a fault.
NO_FAULTS = re.compile(
    r"WebGL|GPU stall|swiftshader|ReadPixels|Content-Security-Policy directive 'frame-ancestors'", re.I
)

STATE = """() => {
  // While the layout changes, those of the layout before are still enabled, though no longer on the page.
  const found = (self.cornerstone?.getEnabledElements() ?? [])
    .map(({ viewport }) => viewport)
    .filter(({ element }) => element.isConnected);
  return found.length > 0 && found.every((one) => {
    const id = one.getCurrentImageId?.();
    return id && cornerstone.cache.getImage(id) && one.viewportStatus === "rendered";
  });
}"""
HANGING = """() => (self.cornerstone?.getEnabledElements() ?? []).map(({ viewport }) => [
  viewport.viewportStatus, viewport.element.isConnected, viewport.getCurrentImageId?.() ?? null,
])"""
VALUES = """(points) => {
  const { viewport } = cornerstone.getEnabledElements()[0];
  const imageId = viewport.getCurrentImageId();
  const image = cornerstone.cache.getImage(imageId);
  const pixels = image.getPixelData();
  const each = Math.round(pixels.length / (image.rows * image.columns));
  return {
    imageId, each, rows: image.rows, columns: image.columns, scaled: Boolean(image.preScale?.scaled),
    values: points.map(([row, column]) => {
      const at = (row * image.columns + column) * each;
      return [...pixels.slice(at, at + Math.min(each, 3))];
    }),
  };
}"""
SHADES = """async ([points, lower, upper]) => {
  const { viewport } = cornerstone.getEnabledElements()[0];
  viewport.setProperties({ voiRange: { lower, upper }, interpolationType: 0 });
  viewport.render();
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const canvas = viewport.getCanvas();
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  const ratio = canvas.width / canvas.clientWidth;
  const { utilities } = cornerstone;
  return points.map(([row, column]) => {
    const world = utilities.imageToWorldCoords(viewport.getCurrentImageId(), [column, row]);
    const [x, y] = viewport.worldToCanvas(world).map((one) => Math.round(one * ratio));
    return [...pen.getImageData(x, y, 1, 1).data].slice(0, 3);
  });
}"""


@pytest.fixture
def viewer(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Viewer]:
    """OHIF in Chromium, for somebody who sees the images of clinic C01."""
    if not CHROMIUM:
        pytest.skip("no Chromium was found (HUB_TEST_CHROMIUM)")
    grants.forget()
    with serving(world.app) as address, browser() as chromium:
        monkeypatch.setattr(get_settings(), "public_url", address)
        context = chromium.new_context(viewport={"width": 1200, "height": 800}, locale="zh-CN")
        token = world.client("technologist").cookies.get(SESSION_COOKIE)
        context.add_cookies([{"name": SESSION_COOKIE, "value": str(token), "url": address}])
        yield Viewer(world, address, context)


class Viewer:
    """Takes files in and looks at them."""

    def __init__(self, world: World, address: str, context: Any) -> None:
        self.world, self.address, self.context = world, address, context
        self.page = context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._said)
        self.page.on(
            "response", lambda got: self.faults.append(f"{got.status} {got.url}") if got.status >= 400 else None
        )

    def _said(self, message: Any) -> None:
        if message.type == "error" and not NO_FAULTS.search(message.text):
            self.faults.append(message.text)

    def take(self, *datasets: Dataset) -> str:
        """Store copies with UIDs of their own as one study; its Study Instance UID."""
        study, series = generate_uid(), generate_uid()
        files = []
        for dataset in datasets:
            dataset.StudyInstanceUID, dataset.SOPInstanceUID = study, generate_uid()
            dataset.SeriesInstanceUID = series if dataset.Modality in ("CT", "MR") else generate_uid()
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.PatientID = dataset.get("PatientID") or "P1"
            buffer = io.BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            files.append(Incoming(buffer.getvalue()))
        found = intake.ingest_many(
            self.world.actor("technologist"), files, org_id=self.world.orgs["C01"].id, source="web"
        )
        assert {one.status for one in found} == {"stored"}, found
        return str(study)

    def open(self, study: str, **options: str) -> None:
        """Show a study."""
        query = "".join(f"&{name}={value}" for name, value in options.items())
        self.page.goto(f"{self.address}/ohif/viewer?StudyInstanceUIDs={study}&lng=zh{query}")

    def images(self, study: str, **options: str) -> None:
        """Show a study and wait for its images; as the reading page does, load the viewer once more where it hangs."""
        self.open(study, **options)
        try:
            self.page.wait_for_function(STATE, timeout=45_000)
        except Hung:
            print("the viewer hung:", self.page.evaluate(HANGING), self.faults)
            self.open(study, **options)
            self.page.wait_for_function(STATE)

    def ended(self) -> None:
        """Nothing went wrong so far."""
        self.page.wait_for_timeout(300)
        assert self.faults == []


def _points(rows: int, columns: int) -> list[tuple[int, int]]:
    return [(round(rows * y / 7), round(columns * x / 7)) for y in range(1, 7) for x in range(1, 7)]


def _compare(viewer: Viewer, datasets: list[Dataset], *, tolerance: int = 0) -> None:
    """The pixels in Cornerstone's cache against those of whichever dataset is on the screen."""
    rows, columns = datasets[0].Rows, datasets[0].Columns
    points = _points(rows, columns)
    got = viewer.page.evaluate(VALUES, points)
    place = re.search(r"/instances/([0-9.]+)/frames/(\d+)", got["imageId"])
    assert place
    dataset = next(one for one in datasets if place[1] == one.SOPInstanceUID)
    expected = frame_of(dataset, int(place[2]) - 1)
    assert (got["rows"], got["columns"]) == expected.shape[:2]
    if got["scaled"]:
        expected = apply_modality_lut(expected, dataset)
    wanted = np.array([np.atleast_1d(expected[row, column]) for row, column in points], dtype=float)
    found = np.array(got["values"], dtype=float)[:, : wanted.shape[1]]
    assert np.abs(found - wanted).max() <= tolerance, f"{place[1]}: {found[:4]} instead of {wanted[:4]}"
    assert len(np.unique(wanted)) > 2, "the points say nothing"


def _phantom(kind: str, **options: Any) -> list[Dataset]:
    patient = PhantomPatient("PX1", "王芳", "F", pinyin="Wang Fang", age=47)
    moment = datetime(2026, 11, 1, 9, 30)  # noqa: DTZ001 (a device's wall clock)
    files = generate(kind, seed=3, patient=patient, study_time=moment, charset="utf-8", **options)
    return [pydicom.dcmread(io.BytesIO(data)) for data in files]


def _ship(name: str) -> Dataset:
    path = get_testdata_file(name, download=False)
    assert path
    return pydicom.dcmread(str(path))


def test_native_images_of_each_kind(viewer: Viewer) -> None:
    ct = _phantom("ct_head", slices=5, size=128)
    viewer.images(viewer.take(*ct))
    _compare(viewer, ct)
    assert viewer.page.evaluate("() => services.hangingProtocolService.protocol.id") == "hubStack"
    place = viewer.page.evaluate("() => cornerstone.getEnabledElements()[0].viewport.getCurrentImageIdIndex()")
    assert place == 2, "a stack opens in its middle"
    assert "王芳" in viewer.page.inner_text("[data-cy=viewport-pane]"), "whose images these are stands in the viewport"
    signed = [_ship("CT_small.dcm")]
    viewer.images(viewer.take(*signed))
    _compare(viewer, signed)

    dx = _phantom("dr_chest", size=400)
    cr = _phantom("dr_chest", size=300)
    for one in cr:
        one.Modality, one.SOPClassUID = "CR", "1.2.840.10008.5.1.4.1.1.1"
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    for datasets in (dx[:1], cr[:1], [_ship("MR_small.dcm")]):
        viewer.images(viewer.take(*datasets))
        _compare(viewer, datasets)
        alone = viewer.page.evaluate("() => services.hangingProtocolService.protocol.id")
        assert alone == "hubStack", "one image has all of the screen"
    pair = _phantom("dr_chest", size=300)[:1] + _phantom("dr_limb", size=300)[:1]
    viewer.images(viewer.take(*pair))
    assert viewer.page.evaluate("() => services.hangingProtocolService.protocol.id") == "hubXray"
    viewer.page.wait_for_function("() => cornerstone.getEnabledElements().length === 2")
    viewer.page.wait_for_function(STATE)
    _compare(viewer, pair)
    viewer.ended()


def test_colour_and_several_frames(viewer: Viewer) -> None:
    rgb = [_ship("examples_rgb_color.dcm")]
    viewer.images(viewer.take(*rgb))
    _compare(viewer, rgb)
    clip = [_ship("examples_ybr_color.dcm")]
    viewer.images(viewer.take(*clip))
    # Two JPEG decoders may round differently, and convert colours so.
    _compare(viewer, clip, tolerance=4)
    assert viewer.page.evaluate("() => cornerstone.getEnabledElements()[0].viewport.getImageIds().length") == 30
    viewer.page.evaluate("() => cornerstone.getEnabledElements()[0].viewport.setImageIdIndex(20)")
    viewer.page.wait_for_function(STATE)
    _compare(viewer, clip, tolerance=4)
    viewer.ended()


def test_the_canvas_after_a_window(viewer: Viewer) -> None:
    ct = _phantom("ct_head", slices=3, size=128)
    viewer.images(viewer.take(*ct))
    shown = viewer.page.evaluate(VALUES, [[0, 0]])["imageId"]
    dataset = next(one for one in ct if one.SOPInstanceUID in shown)
    values = apply_modality_lut(frame_of(dataset), dataset)
    lower, upper = -160.0, 240.0
    points = _points(128, 128)
    got = np.array(viewer.page.evaluate(SHADES, [points, lower, upper]), dtype=float)
    wanted = np.array([np.clip((values[at] - lower) / (upper - lower), 0, 1) * 255 for at in points])
    assert np.abs(got - wanted[:, None]).max() <= 3
    assert len(np.unique(wanted.round())) > 4
    viewer.ended()


def test_images_recompressed_at_rest(viewer: Viewer) -> None:
    ct = _phantom("ct_head", slices=4, size=128)
    kinds = [ct, [_ship("CT_small.dcm")], _phantom("dr_chest", size=300)[:1], [_ship("examples_rgb_color.dcm")]]
    for datasets in kinds:
        study = viewer.take(*datasets)
        with database().reading() as session:
            study_id = session.scalar(select(Study.id).where(Study.uid == study))
        assert study_id
        recompression.recompress_study(study_id)
        with database().reading() as session:
            kept = session.scalars(select(Instance.transfer_syntax).where(Instance.study_id == study_id)).all()
        assert set(kept) == {HTJ2K}
        grants.forget()
        viewer.images(study)
        _compare(viewer, datasets)
    viewer.ended()


def test_a_prior_hangs_beside_the_current_one(viewer: Viewer) -> None:
    current, prior = (viewer.take(*_phantom("ct_head", slices=3, size=128)) for _exam in range(2))
    viewer.images(f"{current},{prior}", hangingProtocolId="hubCompare")
    ids = viewer.page.evaluate(
        "() => cornerstone.getEnabledElements().map(({viewport}) => viewport.getCurrentImageId())"
    )
    assert [current in ids[0], prior in ids[1]] == [True, True]
    viewer.ended()


def test_a_measurement_offers_nothing_that_would_fail(viewer: Viewer) -> None:
    viewer.images(viewer.take(*_phantom("ct_head", slices=3, size=128)))
    viewer.page.evaluate("() => commandsManager.run('setToolActive', { toolName: 'Length' })")
    box = viewer.page.locator(".cornerstone-canvas").first.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    viewer.page.mouse.move(x - 60, y)
    viewer.page.mouse.down()
    viewer.page.mouse.move(x + 60, y + 20, steps=5)
    viewer.page.mouse.up()
    viewer.page.evaluate(
        "() => services.panelService.activatePanel("
        "'@ohif/extension-measurement-tracking.panelModule.trackedMeasurements', true)"
    )
    panel = viewer.page.locator("[data-cy=trackedMeasurements-panel]")
    panel.get_by_text("CSV").wait_for()
    panel.get_by_text("mm").first.wait_for()
    panel.locator("button", has_text="删除").first.wait_for()
    assert not panel.get_by_text("Create SR").is_visible(), "a report of the viewer's own could not be saved"
    viewer.ended()


def _pdf() -> tuple[Dataset, bytes]:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 120), "navy").save(buffer, "PDF")
    document = buffer.getvalue() + b"\n" * (len(buffer.getvalue()) % 2)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.Modality, dataset.PatientName, dataset.PatientID = "DOC", "Wang^Fang", "PX1"
    dataset.InstanceNumber, dataset.SeriesNumber = 1, 1
    dataset.StudyDate, dataset.StudyTime, dataset.ContentDate, dataset.ContentTime = (
        "20261101",
        "093000",
        "20261101",
        "0930",
    )
    dataset.DocumentTitle, dataset.BurnedInAnnotation, dataset.ConversionType = "Report", "YES", "WSD"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = document
    return dataset, document


def test_documents_and_structured_reports(viewer: Viewer) -> None:
    dataset, document = _pdf()
    viewer.open(viewer.take(dataset))
    shown = viewer.page.locator(
        "object[type='application/pdf'], iframe[src*='bulkdata'], embed[type='application/pdf']"
    )
    shown.first.wait_for(state="attached", timeout=60_000)
    place = shown.first.get_attribute("data") or shown.first.get_attribute("src") or ""
    got = viewer.page.evaluate("async (place) => [...new Uint8Array(await (await fetch(place)).arrayBuffer())]", place)
    assert bytes(got).startswith(b"%PDF")
    assert bytes(got) == document

    viewer.open(viewer.take(_ship("test-SR.dcm")))
    viewer.page.get_by_text("was detected.").first.wait_for()
    viewer.ended()
