"""Routes of QIDO-RS and of WADO-RS metadata."""

from __future__ import annotations

import json
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from hub.kit.actor import Actor
from hub.kit.edge import ReadDb
from hub.kit.ids import new_secret
from hub.protocols.dicomweb import answers, dicomxml, fastsearch, metadata, multipart, negotiate, qido
from hub.protocols.dicomweb.doors import DOOR, VIEWER_DOOR, FrameViewer, Uid, base, issuer
from hub.studies import metadata as studies_metadata
from hub.studies import repository
from hub.studies.models import Study
from hub.studies.search import Level

KeptViewer = FrameViewer
"""Who may view images; remembered for a few seconds, for what answers without the framework (fastsearch)."""

_Endpoint = Callable[..., Response]

router = APIRouter(tags=["dicomweb"])


def _search(
    request: Request,
    session: ReadDb,
    actor: Actor,
    door: str,
    level: Level,
    *,
    study: str = "",
    series: str = "",
) -> Response:
    """The answer of a search.

    Raises:
        BadQuery: A parameter cannot be understood.
    """
    viewer = door == VIEWER_DOOR
    media = negotiate.choose(request, (negotiate.JSON, negotiate.XML))
    asked = qido.parse(request.url.query, level, study, series, issuer() if viewer else None)
    found = qido.answer(session, actor, asked, base=base(request, door), service=request.url.netloc)
    headers = {"Cache-Control": answers.REVALIDATE, "Vary": "Accept, Accept-Encoding, Authorization, Cookie"}
    if not found.count and not viewer:
        # The viewer's library takes no answer without a body for an empty list.
        answer = Response(status_code=204, headers=headers)
    elif media == negotiate.XML:
        boundary = f"hub-{new_secret(12)}"
        documents = json.loads(found.body)
        parts = (({"Content-Type": negotiate.XML}, [dicomxml.write(document)]) for document in documents)
        body = b"".join(multipart.write(parts, boundary))
        answer = Response(body, headers=headers, media_type=answers.related(negotiate.XML, boundary))
    else:
        answer = answers.compressed(request, found.body, media, headers)
    for name, value in found.headers:
        answer.headers.append(name, value)
    return answer


def _county(session: ReadDb, study: Study) -> metadata.County:
    number = repository.county_number_of(session, study)
    return metadata.County(number, issuer(), studies_metadata.registered_of(session, study.id))


def _metadata(
    request: Request,
    session: ReadDb,
    actor: Actor,
    door: str,
    study_uid: str,
    *,
    series_uid: str = "",
    sop_uid: str = "",
) -> Response:
    study = repository.by_uid(session, actor, study_uid)
    series = studies_metadata.series_of(session, study.id, series_uid)
    county = _county(session, study) if door == VIEWER_DOOR else None
    address = f"{base(request, door)}/studies/{study.uid}"
    if sop_uid:
        # What is not there is said before the view is noted.
        repository.instance(session, actor, study_uid, series_uid, sop_uid)
    repository.note_view(actor, study.id)
    if repository.seen_lastingly(session, actor, study.id):
        fastsearch.allow(actor, study)
    return metadata.metadata_answer(
        request,
        series,
        lambda: studies_metadata.texts(session, series, sop_uid=sop_uid),
        study_url=address,
        county=county,
        sop_uid=sop_uid,
    )


def _serve(door: str) -> None:
    """Add the routes of a door.

    At the viewer's, PatientID is the county's number: in answers, and in queries too.
    """
    viewer = door == VIEWER_DOOR
    search, headers = ("QIDO-RS, viewer", "viewer") if viewer else ("QIDO-RS", "WADO-RS")
    searched = "; PatientID is the county's number, in the query too." if viewer else " (PS3.18 §10.6)."
    told = ", with the county's number as PatientID." if viewer else " (PS3.18 §10.4)."

    def route(path: str, summary: str, description: str) -> Callable[[_Endpoint], _Endpoint]:
        def added(endpoint: _Endpoint) -> _Endpoint:
            name = f"viewer_{endpoint.__name__}" if viewer else endpoint.__name__
            router.get(door + path, name=name, summary=summary, description=description)(endpoint)
            return endpoint

        return added

    @route("/studies", f"Search for studies ({search})", f"Studies that the caller may see{searched}")
    def search_studies(request: Request, session: ReadDb, actor: KeptViewer) -> Response:
        return _search(request, session, actor, door, Level.STUDY)

    @route("/series", f"Search for series ({search})", f"Series of any study that the caller may see{searched}")
    def search_series(request: Request, session: ReadDb, actor: KeptViewer) -> Response:
        return _search(request, session, actor, door, Level.SERIES)

    @route(
        "/instances", f"Search for instances ({search})", f"Instances of any study that the caller may see{searched}"
    )
    def search_instances(request: Request, session: ReadDb, actor: KeptViewer) -> Response:
        return _search(request, session, actor, door, Level.INSTANCE)

    @route(
        "/studies/{study}/series",
        f"Search for series of a study ({search})",
        f"Series of a study that the caller may see{searched}",
    )
    def search_study_series(request: Request, session: ReadDb, study: Uid, actor: KeptViewer) -> Response:
        return _search(request, session, actor, door, Level.SERIES, study=study)

    @route(
        "/studies/{study}/instances",
        f"Search for instances of a study ({search})",
        f"Instances of a study that the caller may see{searched}",
    )
    def search_study_instances(request: Request, session: ReadDb, study: Uid, actor: KeptViewer) -> Response:
        return _search(request, session, actor, door, Level.INSTANCE, study=study)

    @route(
        "/studies/{study}/series/{series}/instances",
        f"Search for instances of a series ({search})",
        f"Instances of a series that the caller may see{searched}",
    )
    def search_series_instances(
        request: Request, session: ReadDb, study: Uid, series: Uid, actor: KeptViewer
    ) -> Response:
        return _search(request, session, actor, door, Level.INSTANCE, study=study, series=series)

    @route(
        "/studies/{study}/metadata", f"Metadata of a study ({headers})", f"Headers of all instances of a study{told}"
    )
    def study_metadata(request: Request, session: ReadDb, study: Uid, actor: KeptViewer) -> Response:
        return _metadata(request, session, actor, door, study)

    @route(
        "/studies/{study}/series/{series}/metadata",
        f"Metadata of a series ({headers})",
        f"Headers of all instances of a series{told}",
    )
    def series_metadata(request: Request, session: ReadDb, study: Uid, series: Uid, actor: KeptViewer) -> Response:
        return _metadata(request, session, actor, door, study, series_uid=series)

    @route(
        "/studies/{study}/series/{series}/instances/{sop}/metadata",
        f"Metadata of an instance ({headers})",
        f"Header of one instance{told}",
    )
    def instance_metadata(
        request: Request, session: ReadDb, study: Uid, series: Uid, sop: Uid, actor: KeptViewer
    ) -> Response:
        return _metadata(request, session, actor, door, study, series_uid=series, sop_uid=sop)


_serve(DOOR)
_serve(VIEWER_DOOR)
