"""DICOMweb: machines with an API key, people in a session."""

VIEWERS = {"technologist", "clinician", "reporter", "reviewer", "expert", "quality", "director", "machine:retrieve"}
SENDERS = {"technologist", "machine:stow"}

_INSTANCE = "/studies/{study}/series/{series}/instances/{sop}"

ROUTES = {
    ("POST", "/dicomweb/studies"): SENDERS,
    ("POST", "/dicomweb/studies/{study}"): SENDERS,
    ("POST", "/viewer/dicomweb/studies"): SENDERS,
    **{
        ("GET", f"{door}{path}"): VIEWERS
        for door in ("/dicomweb", "/viewer/dicomweb")
        for path in (
            "/studies",
            "/series",
            "/instances",
            "/studies/{study}/series",
            "/studies/{study}/instances",
            "/studies/{study}/series/{series}/instances",
            "/studies/{study}",
            "/studies/{study}/metadata",
            "/studies/{study}/rendered",
            "/studies/{study}/thumbnail",
            "/studies/{study}/series/{series}",
            "/studies/{study}/series/{series}/metadata",
            "/studies/{study}/series/{series}/rendered",
            "/studies/{study}/series/{series}/thumbnail",
            _INSTANCE,
            f"{_INSTANCE}/metadata",
            f"{_INSTANCE}/frames/{{numbers}}",
            f"{_INSTANCE}/frames/{{numbers}}/rendered",
            f"{_INSTANCE}/frames/{{numbers}}/thumbnail",
            f"{_INSTANCE}/bulkdata/{{path:path}}",
            f"{_INSTANCE}/rendered",
            f"{_INSTANCE}/thumbnail",
        )
    },
    ("GET", "/dicomweb/wado"): VIEWERS,
    ("GET", "/dicomweb/"): VIEWERS,
    ("OPTIONS", "/dicomweb/"): VIEWERS,
    ("DELETE", "/dicomweb/studies/{study}"): {"director"},
    ("DELETE", "/viewer/dicomweb/studies/{study}"): {"director"},
}
