"""The sample county's studies: generated, and entered through the public HTTP API like everybody's.

Every story is driven by the state in which the hub has it, so that a run that was killed goes on where it was, and a
second run changes nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

import httpx
import numpy as np
from sqlalchemy import select

from hub.cli import sample_conversation, sample_critical, sample_patients, sample_review, sample_routing
from hub.cli.client import Client, Login, Outgoing, Refused
from hub.dicom import phantoms
from hub.dicom.phantoms import PhantomPatient
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.settings import get_settings
from hub.sites import service as sites
from hub.sites.models import Organisation

log = get_logger(__name__)

Goal = Literal["registered", "to_verify", "queued", "history", "submitted", "rejected", "returned", "seen", "corrected"]
Way = Literal["register", "images", "stow"]


@dataclass(frozen=True, slots=True)
class Story:
    """One exam of the sample county and how far it has come.

    Attributes:
        key: Encounter number, and the seed of the images.
        clinic: Number of the clinic.
        way: `register` before the images come, `images` first by the web page, or `stow` by a machine.
        header_name: What the device wrote, where it is not the registered name.
    """

    key: str
    clinic: int
    kind: str
    name: str
    sex: str
    age: int
    goal: Goal
    charset: phantoms.Charset = "utf-8"
    finding: str = ""
    priority: str = "routine"
    way: Way = "register"
    history: str = ""
    header_name: str = ""
    pinyin: str = ""
    number: str = ""
    minutes: int = 20
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def patient_number(self) -> str:
        """The clinic's number of the patient; two stories of one patient share it."""
        return self.number or f"P{self.key}"


STORIES: tuple[Story, ...] = (
    # The smallest first: a radiograph and a head CT are there within seconds.
    Story("24001", 1, "dr_chest", "王秀英", "F", 63, "queued", "pinyin", "effusion", history="胸闷气促一周,发热两天"),
    Story(
        "24002", 1, "ct_head", "李建国", "M", 71, "queued", "gbk-mislabelled", "hemorrhage", "emergency",
        history="突发头痛呕吐两小时,右侧肢体无力", minutes=12,
    ),
    Story("24003", 2, "dr_limb", "张梓涵", "F", 9, "seen", "gb18030", "fracture", "urgent",
          history="跌倒致右手疼痛肿胀"),
    Story("24004", 1, "dr_chest", "陈志强", "M", 45, "seen", "utf-8",
          history="入职体检", extra={"encounter": "checkup"}),
    Story("24005", 5, "ct_chest", "刘桂英", "F", 58, "returned", "gbk-mislabelled", "nodule",
          history="肺结节复查,吸烟史"),
    Story("24006", 1, "dr_chest", "欧阳春梅", "F", 34, "submitted", "pinyin",
          pinyin="Ouyang Chunmei", history="咳嗽咳痰一周"),
    Story("24007", 3, "dr_limb", "吴浩然", "M", 27, "queued", "utf-8", "fracture", history="手部外伤一小时"),
    Story(
        "24008", 1, "dr_chest", "赵强", "M", 52, "to_verify", "pinyin", header_name="孙丽", history="咳嗽三天",
    ),
    Story("24009", 9, "dr_chest", "周玉兰", "F", 77, "queued", "gb18030", "nodule", way="stow", history=""),
    Story("24010", 1, "dr_limb", "黄小红", "F", 41, "to_verify", "utf-8", way="images"),
    Story("24011", 1, "dr_chest", "马思远", "M", 19, "history", "utf-8", history="胸痛"),
    Story("24012", 5, "dr_chest", "何雪梅", "F", 66, "corrected", "gbk-mislabelled", "effusion",
          history="胸腔积液复查"),
    Story("24013", 1, "dr_limb", "郭文", "M", 38, "rejected", "pinyin", "fracture", history="右手挤压伤"),
    Story("24014", 4, "dr_chest", "高赟", "M", 49, "seen", "utf-8", history="发热咳嗽三天"),
    Story(
        "24015", 1, "ct_head", "林建华", "M", 55, "seen", "utf-8", history="头晕反复发作半年", minutes=90,
    ),
    Story("24016", 1, "ct_chest", "王秀英", "F", 63, "queued", "pinyin", "effusion", "urgent", number="P24001",
          history="胸片示左侧胸腔积液,进一步检查", minutes=5),
    Story("24017", 7, "dr_chest", "罗国庆", "M", 68, "returned", "gb18030", "nodule", history="咯血一天,结核病史"),
    Story("24018", 8, "ct_head", "郑珺", "F", 33, "queued", "gb18030", history="头部外伤半小时,意识清楚",
          priority="emergency", extra={"doctor": "", "doctor_phone": ""}),
    Story("24019", 13, "dr_chest", "梁晓东", "M", 60, "queued", "utf-8", history="术前检查"),
    Story("24020", 17, "ct_chest", "谢堃", "M", 47, "seen", "utf-8", history="体检发现肺部阴影"),
    Story("24021", 1, "ct_chest", "宋明", "M", 39, "registered", history="外伤后胸痛"),
    Story("24022", 21, "dr_limb", "唐雨桐", "F", 12, "returned", "pinyin", history="骨折复查"),
)  # fmt: skip

_FAR: dict[str, int] = {
    "registered": 0, "receiving": 1, "to_verify": 2, "to_read": 3, "reading": 4, "to_review": 5, "reviewing": 6,
    "signed": 7, "returned": 8, "seen": 9,
}  # fmt: skip
_GOAL_STATES: dict[Goal, str] = {
    "registered": "registered",
    "to_verify": "to_verify",
    "queued": "to_read",
    "history": "history_requested",
    "submitted": "to_review",
    "rejected": "rejected",
    "returned": "returned",
    "seen": "seen",
    "corrected": "returned",
}
_PARTS = {"ct_head": "head", "ct_chest": "chest", "dr_chest": "chest", "dr_limb": "hand"}
_DEVICES = {"ct": ("Sample Medical", "CT-16"), "dr": ("Sample Medical", "DR-50")}

_REPORTS: dict[tuple[str, str], tuple[str, str, str]] = {
    ("ct_head", ""): (
        "双侧大脑半球灰白质分界清楚,脑实质内未见异常密度影。脑室、脑池、脑沟大小形态如常,中线结构居中。颅骨骨质完整。",
        "颅脑CT平扫未见明显异常。",
        "结合临床,必要时复查或MRI检查。",
    ),
    ("ct_head", "hemorrhage"): (
        "一侧基底节区见团块状高密度影,边界尚清,周围见低密度水肿带,邻近脑室受压,中线结构轻度移位。颅骨骨质完整。",
        "基底节区脑出血,请结合临床。",
        "建议短期复查。",
    ),
    ("ct_chest", ""): (
        "双肺纹理清晰,肺野内未见实变及占位。气管及各叶段支气管通畅。纵隔未见肿大淋巴结。心影不大,双侧胸腔未见积液。",
        "胸部CT平扫未见明显异常。",
        "定期体检。",
    ),
    ("ct_chest", "nodule"): (
        "肺内见一实性结节,边界较清,余肺未见实变。气管及支气管通畅。纵隔未见肿大淋巴结,双侧胸腔未见积液。",
        "肺结节,建议随访。",
        "建议3个月后复查胸部CT,与旧片对比。",
    ),
    ("ct_chest", "effusion"): (
        "一侧胸腔见弧形液体密度影,邻近肺组织受压膨胀不全。余肺纹理增多,纵隔居中,心影不大。",
        "胸腔积液伴邻近肺组织膨胀不全。",
        "结合临床及实验室检查。",
    ),
    ("dr_chest", ""): (
        "胸廓对称,双肺纹理清晰,肺野内未见实变影。心影形态、大小正常,双膈面光整,肋膈角锐利。",
        "胸部正位片未见明显异常。",
        "",
    ),
    ("dr_chest", "nodule"): (
        "胸廓对称,肺野内见一类圆形结节影,边界尚清。心影不大,双膈面光整,肋膈角锐利。",
        "肺结节影,建议CT进一步检查。",
        "建议胸部CT检查。",
    ),
    ("dr_chest", "effusion"): (
        "一侧肋膈角变钝,见外高内低弧形致密影。余肺纹理增多。心影不大。",
        "胸腔积液。",
        "建议胸部CT或超声检查。",
    ),
    ("dr_limb", ""): (
        "手诸骨骨质结构完整,骨小梁清晰,关节间隙正常,周围软组织未见肿胀。",
        "手部正位片未见明显骨折及脱位。",
        "",
    ),
    ("dr_limb", "fracture"): (
        "掌骨骨质连续性中断,断端轻度成角移位,周围软组织肿胀。余骨骨质完整。",
        "掌骨骨折。",
        "建议骨科就诊,治疗后复查。",
    ),
}


def fill(url: str, logins: Sequence[Login]) -> None:
    """Bring every story to where it belongs, against the running hub at `url`.

    Raises:
        Refused, httpx.HTTPError: The hub refused or did not answer, three times.
    """
    sample_routing.write()
    sample_critical.write()
    sample_review.write()
    sample_patients.write()
    filler = _Filler(url, {login.login: login for login in logins})
    try:
        filler.run()
        sample_critical.play(filler.client)
        sample_patients.play(filler.client)
        sample_conversation.talk(filler.client)
    finally:
        filler.close()


class _Filler:
    def __init__(self, url: str, logins: dict[str, Login]) -> None:
        self.url, self.logins = url, logins
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()
        # The devices' clock: the same after a restart, so that the same images are made again.
        with database().reading() as session:
            begun = session.scalars(select(Organisation.created_at).where(Organisation.sample).limit(1)).one()
        self.begun = clock.local(begun, get_settings().timezone).replace(tzinfo=None, microsecond=0)

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    def client(self, login: str) -> Client:
        """The client of a person, logged in once."""
        with self._lock:
            if login not in self._clients:
                one = self.logins[login]
                self._clients[login] = Client(self.url, patience=60).log_in(one.login, one.password)
            return self._clients[login]

    def run(self) -> None:
        """Enter the stories in order; a second thread reads what has arrived."""
        arrived: queue.Queue[Story | None] = queue.Queue()
        failures: list[Exception] = []

        def read() -> None:
            while (story := arrived.get()) is not None:
                self._try(story, self._read, failures)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        for number, story in enumerate(STORIES):
            self._try(story, self._enter, failures)
            arrived.put(story)
            if number == 6:
                self._refused_file()
        arrived.put(None)
        reader.join()
        if failures:
            raise failures[0]

    def _try(self, story: Story, act: Callable[[Story], None], failures: list[Exception]) -> None:
        for left in (2, 1, 0):
            try:
                act(story)
                return
            except (Refused, httpx.HTTPError) as error:
                if isinstance(error, Refused) and error.status == 409:
                    # A person was faster: the hub is in use while it is being filled.
                    log.info("a sample exam is in somebody's hands", story=story.key, code=error.code)
                    return
                log.warning("a sample exam is tried again" if left else "a sample exam failed", story=story.key,
                            error=str(error)[:300])  # fmt: skip
                if left == 0:
                    failures.append(error)
                time.sleep(1)

    # --- the clinic -----------------------------------------------------------------------------------------------

    def _exam(self, story: Story) -> dict[str, Any] | None:
        found = self.client(f"tech{story.clinic:02}").get("/api/exams", q=story.patient_number, size=200)["items"]
        for exam in found:
            if exam["patient"]["number"] == story.patient_number and (
                exam["encounter_number"] == story.key or (story.way != "register" and not exam["encounter_number"])
            ):
                return dict(exam)
        return None

    def _enter(self, story: Story) -> None:
        """Registration and images."""
        tech = self.client(f"tech{story.clinic:02}")
        exam = self._exam(story)
        if exam is None and story.way == "register":
            exam = tech.post("/api/exams", self._form(story))
        if exam is not None and (story.goal == "registered" or exam["state"] not in ("registered", "receiving")):
            return
        files = [Outgoing(f"{story.key}/IM{number:04}.dcm", data) for number, data in enumerate(self._images(story), 1)]
        if story.way == "stow":
            self._stow(story, files)
            return
        exam_id = str(exam["id"]) if exam is not None and story.way == "register" else None
        batch_id = next((one["id"] for one in tech.get("/api/uploads") if exam_id and one["exam_id"] == exam_id), None)
        batch = tech.declare(files, exam_id=exam_id, batch_id=batch_id)
        for outgoing, row in zip(files, batch.files, strict=True):
            tech.send(outgoing, row)
        tech.finish(batch.id)

    def _form(self, story: Story) -> dict[str, Any]:
        return {
            "name": story.name,
            "sex": story.sex,
            "age": str(story.age),
            "number": story.patient_number,
            "phone": f"1380000{story.key[-4:]}",
            "encounter": "emergency" if story.priority == "emergency" else "outpatient",
            "encounter_number": story.key,
            "department": "急诊科" if story.priority == "emergency" else "全科",
            "doctor": "刘医生",
            "doctor_phone": f"0790-55{story.clinic:02}121",
            "modality": "CT" if story.kind.startswith("ct") else "DX",
            "body_parts": [_PARTS[story.kind]],
            "history": story.history,
            "priority": story.priority,
            **story.extra,
            **sample_patients.identity(story.key, story.age),
        }

    def _images(self, story: Story) -> list[bytes]:
        moment = self.begun - timedelta(minutes=story.minutes)
        small = get_settings().sample_size
        patient = PhantomPatient(
            story.patient_number,
            story.header_name or story.name,
            story.sex,
            # Township devices invent a birth date from the age; this one is the first of January.
            birth_date=date(moment.year - story.age, 1, 1) if story.charset != "pinyin" else None,
            pinyin=story.pinyin,
            age=story.age,
            institution="",
            device=_DEVICES[story.kind[:2]],
        )
        with np.errstate(all="ignore"):
            return list(
                phantoms.generate(
                    story.kind,
                    seed=int(story.key),
                    patient=patient,
                    study_time=datetime.combine(moment.date(), moment.time()),
                    charset=story.charset,
                    finding=story.finding,
                    slices=6 if small else 64,
                    size=small or (512 if story.kind.startswith("ct") else 1500),
                )
            )

    def _stow(self, story: Story, files: list[Outgoing]) -> None:
        """As a clinic's gateway would: a machine with an API key (PS3.18 §10.5)."""
        code = f"C{story.clinic:02}"
        with database().writing() as session:
            clinic = sites.by_code(session, code)
            actor = Actor(kind="system", id="system", name="command line")
            key, token = sites.add_key(session, actor, clinic, label="sample device", scopes=["stow"])
        try:
            boundary = f"sample-{story.key}"
            body = b"".join(
                f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + one.read() + b"\r\n"
                for one in files
            )
            with Client(self.url, key=token, patience=60) as machine:
                machine.request(
                    "POST",
                    "/dicomweb/studies",
                    content=body + f"--{boundary}--\r\n".encode(),
                    headers={
                        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                        "Accept": "application/dicom+json",
                    },
                    again=True,
                )
        finally:
            with database().writing() as session:
                sites.revoke_key(session, Actor(kind="system", id="system", name="command line"), key.id)

    def _refused_file(self) -> None:
        """A file that was cut off, so that the quarantine is not empty."""
        story = STORIES[0]
        data = self._images(story)[0]
        tech = self.client(f"tech{story.clinic:02}")
        outgoing = Outgoing("U盘/IM0099.dcm", data[: len(data) // 3])
        batch = tech.declare([outgoing])
        tech.send(outgoing, batch.files[0])
        tech.finish(batch.id, confirm_short=True)

    # --- the hospital ---------------------------------------------------------------------------------------------

    def _read(self, story: Story) -> None:
        """From the queue to where the story ends."""
        if story.goal in ("registered", "to_verify"):
            return
        hospital = (story.clinic - 1) % 4 + 1
        reader, reviewer = self.client(f"reader{hospital:02}a"), self.client(f"reviewer{hospital:02}")
        until = time.monotonic() + 240
        while time.monotonic() < until:
            exam = self._exam(story)
            state = exam["state"] if exam else "receiving"
            if exam is not None and self._arrived(story, exam):
                return
            if exam is None or state in ("registered", "receiving", "signed"):
                time.sleep(0.3)
            elif state == "to_verify":
                self._complete(story, exam)
            elif state in ("to_read", "reading", "rejected"):
                self._write(story, exam, reader)
            elif state in ("to_review", "reviewing"):
                self._review(story, exam, reviewer)
            elif state in ("returned", "seen") and story.goal == "corrected":
                self._correct(exam, reader, reviewer)
            elif state == "returned":
                self._see(story, exam)
            else:
                return
        log.warning("a sample exam did not arrive", story=story.key)

    def _arrived(self, story: Story, exam: dict[str, Any]) -> bool:
        wanted = _GOAL_STATES[story.goal]
        if story.goal == "corrected":
            reports = self.client(f"doctor{story.clinic:02}").get(f"/api/exams/{exam['id']}/reports")["versions"]
            return len(reports) > 1 and exam["state"] in ("returned", "seen")
        if wanted in _FAR and exam["state"] in _FAR:
            return _FAR[exam["state"]] >= _FAR[wanted]
        return bool(exam["state"] == wanted)

    def _complete(self, story: Story, exam: dict[str, Any]) -> None:
        """What a machine sent first is registered by the clinic."""
        tech = self.client(f"tech{story.clinic:02}")
        if story.way == "stow":
            form = self._form(story) | {"history": story.history or "咳嗽两周,消瘦"}
            tech.request("PATCH", f"/api/exams/{exam['id']}", json=form)
            if self._state(story) != "to_verify":
                return
        tech.post(f"/api/exams/{exam['id']}/verify", {"reason": "与申请单核对,为同一患者"})

    def _state(self, story: Story) -> str:
        exam = self._exam(story)
        return str(exam["state"]) if exam else ""

    def _write(self, story: Story, exam: dict[str, Any], reader: Client) -> None:
        lease = reader.post(f"/api/exams/{exam['id']}/claim")["lease"]
        if story.goal == "history":
            reason = "请补充症状持续时间及有无外伤史"
            reader.post(f"/api/exams/{exam['id']}/request-history", {"lease": lease, "reason": reason})
            return
        versions = reader.get(f"/api/exams/{exam['id']}/reports")["versions"]
        revision = versions[0]["revision"] if versions else 0
        findings, impression, recommendation = _REPORTS[story.kind, story.finding]
        text = {
            "technique": "常规平扫。" if story.kind.startswith("ct") else "常规正位摄片。",
            "comparison": "",
            "findings": findings,
            "impression": impression,
            "recommendation": recommendation,
            "positive": bool(story.finding),
            "critical": story.finding == "hemorrhage",
        }
        saved = reader.put(f"/api/exams/{exam['id']}/report", text | {"lease": lease, "revision": revision})
        reader.post(f"/api/exams/{exam['id']}/submit", {"lease": lease, "revision": saved["revision"]})

    def _review(self, story: Story, exam: dict[str, Any], reviewer: Client) -> None:
        lease = reviewer.post(f"/api/exams/{exam['id']}/claim")["lease"]
        if story.goal == "rejected":
            note = "请核对侧别,并描述断端移位情况"
            reviewer.post(f"/api/exams/{exam['id']}/reject", {"lease": lease, "note": note})
            return
        self._sign(exam, reviewer, lease)

    def _sign(self, exam: dict[str, Any], reviewer: Client, lease: str) -> None:
        if not reviewer.get("/api/signing")["unlocked"]:
            login = next(one for one in self.logins.values() if self._clients.get(one.login) is reviewer)
            reviewer.post("/api/signing/unlock", {"pin": login.pin})
        version = next(
            one for one in reviewer.get(f"/api/exams/{exam['id']}/reports")["versions"] if one["state"] != "signed"
        )
        body = {"lease": lease, "revision": version["revision"], "content_hash": version["content_hash"]}
        body["review"] = sample_review.opinion(exam)
        reviewer.post(f"/api/reports/{version['version_id']}/sign", body, again=True)

    def _correct(self, exam: dict[str, Any], reader: Client, reviewer: Client) -> None:
        """A correction by the author, signed by the reviewer."""
        path = f"/api/exams/{exam['id']}"
        version = reader.get(f"{path}/reports")["versions"][0]
        if version["state"] == "signed":
            version = reader.post(f"{path}/amend", {"kind": "correction", "reason": "补充积液量的描述"})
        if version["state"] == "draft":
            names = ("technique", "comparison", "findings", "impression", "recommendation", "positive", "critical")
            text = {name: version[name] for name in names}
            text["impression"] = "少量" + text["impression"].removeprefix("少量")
            version = reader.put(f"{path}/report", text | {"revision": version["revision"]})
            reader.post(f"{path}/submit", {"revision": version["revision"]})
        self._sign(exam, reviewer, "")

    def _see(self, story: Story, exam: dict[str, Any]) -> None:
        doctor = self.client(f"doctor{story.clinic:02}")
        versions = doctor.get(f"/api/exams/{exam['id']}/reports")["versions"]
        doctor.request("GET", f"/api/reports/{versions[0]['version_id']}/pdf")
