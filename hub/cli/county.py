"""The sample county: organisations and people. Every name is made up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from hub.accounts import passwords, people
from hub.accounts.models import Person
from hub.accounts.roles import Role
from hub.cli.names import PASSWORD, PIN
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.reports import identities
from hub.reports.models import SigningIdentity
from hub.sites import devices
from hub.sites import service as sites
from hub.sites.models import Organisation

HOSPITALS = (
    ("H01", "青溪县人民医院", "Qingxi People's Hospital"),
    ("H02", "青溪县中医医院", "Qingxi Hospital of Chinese Medicine"),
    ("H03", "青溪县妇幼保健院", "Qingxi Maternal and Child Hospital"),
    ("H04", "青溪县第二人民医院", "Qingxi Second People's Hospital"),
)
TOWNS = (
    ("石桥", "Shiqiao"),
    ("云岭", "Yunling"),
    ("龙潭", "Longtan"),
    ("白沙", "Baisha"),
    ("梅坑", "Meikeng"),
    ("竹园", "Zhuyuan"),
    ("大坪", "Daping"),
    ("清水", "Qingshui"),
    ("黄泥", "Huangni"),
    ("松林", "Songlin"),
    ("古塘", "Gutang"),
    ("金鸡", "Jinji"),
    ("双江", "Shuangjiang"),
    ("东山", "Dongshan"),
    ("高田", "Gaotian"),
    ("罗汉", "Luohan"),
    ("桃源", "Taoyuan"),
    ("小河", "Xiaohe"),
    ("平安", "Ping'an"),
    ("樟树", "Zhangshu"),
    ("新圩", "Xinxu"),
    ("岭下", "Lingxia"),
    ("马头", "Matou"),
    ("白云", "Baiyun"),
    ("南坪", "Nanping"),
    ("杨柳", "Yangliu"),
)
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆"
)
_GIVEN = (
    "建国",
    "秀英",
    "伟",
    "芳",
    "娜",
    "敏",
    "静",
    "丽",
    "强",
    "磊",
    "军",
    "洋",
    "勇",
    "艳",
    "杰",
    "娟",
    "涛",
    "明",
    "超",
    "兰",
    "霞",
    "平",
    "刚",
    "桂英",
    "文",
    "华",
    "玉兰",
    "建华",
    "志强",
    "春梅",
    "海燕",
    "晓东",
    "雪梅",
    "国庆",
    "小红",
    "子轩",
    "梓涵",
    "浩然",
    "思远",
    "雨桐",
)


def person_name(index: int) -> str:
    """A made-up name; neighbours differ in both parts."""
    return _SURNAMES[index * 7 % len(_SURNAMES)] + _GIVEN[index * 11 % len(_GIVEN)]


@dataclass(frozen=True, slots=True)
class Login:
    """One login of the sample county."""

    org: str
    login: str
    roles: tuple[str, ...]
    title: str
    pin: str = ""


def logins() -> list[Login]:
    """Everybody, in a fixed order."""
    found: list[Login] = []
    for number in range(1, len(TOWNS) + 1):
        code = f"C{number:02}"
        found.append(Login(code, f"tech{number:02}", (Role.TECHNOLOGIST,), "技师"))
        found.append(Login(code, f"doctor{number:02}", (Role.CLINICIAN,), "全科医师"))
    for number in range(1, len(HOSPITALS) + 1):
        code = f"H{number:02}"
        found.append(Login(code, f"reader{number:02}a", (Role.REPORTER,), "住院医师", PIN))
        found.append(Login(code, f"reader{number:02}b", (Role.REPORTER,), "主治医师", PIN))
        found.append(Login(code, f"reviewer{number:02}", (Role.REVIEWER,), "副主任医师", PIN))
    found += [
        Login("H01", "reviewer01b", (Role.REVIEWER,), "主任医师", PIN),
        Login("T01", "expert01", (Role.EXPERT,), "教授"),
        Login("HUB", "quality01", (Role.QUALITY,), "质控员"),
        Login("HUB", "director01", (Role.DIRECTOR,), "影像中心主任"),
        Login("HUB", "admin01", (Role.ADMINISTRATOR,), "医共体办主任"),
        Login("HUB", "operator01", (Role.OPERATOR,), "工程师"),
    ]
    return found


def sample_devices() -> list[tuple[str, str, bool]]:
    """Devices of the sample county as (organisation, AE title, queries): each clinic's code, each hospital's archive.

    The AE titles that DCMTK's tools call by where none is given belong to the first clinic and the first hospital.
    """
    clinics = [(f"C{number:02}", f"C{number:02}", False) for number in range(1, len(TOWNS) + 1)]
    archives = [(code, code, True) for code, _name, _english in HOSPITALS]
    tools = [("C01", name, False) for name in ("STORESCU", "DCMSEND", "ECHOSCU")]
    return [*clinics, *archives, *tools, *(("H01", name, True) for name in ("FINDSCU", "GETSCU", "MOVESCU"))]


def write_people() -> None:
    """Write organisations, agreements and people into an empty hub, in one transaction."""
    actor = Actor(kind="system", id="system", name="sample county")
    # One hash for all: the password is public anyway, and the first start must be quick.
    hashed = passwords.hash_password(PASSWORD)
    with database().writing() as session:
        orgs: dict[str, Organisation] = {}

        def add(code: str, kind: str, name: str, name_en: str, **more: Any) -> None:
            orgs[code] = sites.add_organisation(
                session, actor, code=code, kind=kind, name=name, name_en=name_en, sample=True, **more
            )

        for number, (town, english) in enumerate(TOWNS, 1):
            kind = "中心卫生院" if number in (1, 7, 13) else "镇卫生院" if number % 3 else "乡卫生院"
            add(
                f"C{number:02}", "clinic", f"{town}{kind}", f"{english} Township Clinic", phone=f"0790-55{number:02}120"
            )
        for code, name, name_en in HOSPITALS:
            number = int(code[1:])
            clinics = [f"C{n:02}" for n in range(1, len(TOWNS) + 1) if (n - 1) % len(HOSPITALS) == number - 1]
            add(code, "hospital", name, name_en, phone=f"0790-560{number}000", reads_for=clinics)
        add("T01", "tertiary", "江城大学附属医院", "Jiangcheng University Hospital", phone="0790-8800000")
        add("HUB", "hub", "青溪县影像中心", "Qingxi Imaging Centre", phone="0790-5600100")
        if devices.is_loopback(get_settings().dimse_bind):
            for code, aet, queries in sample_devices():
                devices.add(session, actor, orgs[code], aet=aet, stores=not queries, queries=queries)
        for index, one in enumerate(logins()):
            people.add_person(
                session,
                actor,
                org=orgs[one.org],
                login=one.login,
                name=person_name(index),
                roles=list(one.roles),
                title=one.title,
                password=PASSWORD,
                password_hash=hashed,
                sample=True,
                must_change_password=False,
            )


def issue_certificates(*, hospital: str = "") -> int:
    """Give readers without a certificate one by the hub's CA, under the sample PIN; how many were given.

    Each takes half a second of sealing by design. `hospital`: only those of the organisation of that code.
    """
    identities.ensure_ca()
    with database().reading() as session:
        owners = set(session.scalars(select(SigningIdentity.person_id)))
        readers = [
            Actor(kind="person", id=person.id, name=person.name, org_id=person.org_id, roles=frozenset(person.roles))
            for person, code in session.execute(
                select(Person, Organisation.code)
                .join(Organisation, Organisation.id == Person.org_id)
                .where(Person.sample)
                .order_by(Person.login)
            )
            if code.startswith(hospital)
            and {Role.REPORTER, Role.REVIEWER} & set(person.roles)
            and person.id not in owners
        ]
    # Making a key and sealing it releases the interpreter, so that threads halve the time.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda reader: identities.issue(reader, PIN), readers))
    return len(readers)


def listing() -> dict[str, Any]:
    """What `hub sample --json` prints.

    Returns:
        `organisations`: code, name, name_en, kind; `logins`: role, roles, organisation, login, password, PIN, name.
    """
    with database().reading() as session:
        orgs = list(session.scalars(select(Organisation).where(Organisation.sample).order_by(Organisation.code)))
        known = {person.login: person for person in session.scalars(select(Person).where(Person.sample))}
    return {
        "organisations": [
            {"code": org.code, "name": org.name, "name_en": org.name_en, "kind": org.kind} for org in orgs
        ],
        "logins": [
            {
                "role": one.roles[0],
                "roles": list(one.roles),
                "organisation": one.org,
                "login": one.login,
                "password": PASSWORD,
                "pin": one.pin,
                "name": known[one.login].name,
            }
            for one in logins()
            if one.login in known
        ],
    }
