"""Review: tracked changes, feedback, changed conclusions, arbitration, reading again, policy."""

from hub.accounts.roles import Role

READERS = {Role.REPORTER.value, Role.REVIEWER.value}
REVIEWER = {Role.REVIEWER.value}
OVERSEERS = {Role.QUALITY.value, Role.DIRECTOR.value}
PARTIES = READERS | OVERSEERS
RECEIVERS = {Role.TECHNOLOGIST.value, Role.CLINICIAN.value, "machine:report"}
VIEWERS = PARTIES | RECEIVERS | {Role.EXPERT.value}
KEEPERS = {Role.DIRECTOR.value, Role.ADMINISTRATOR.value}

ROUTES = {
    ("POST", "/api/reports/{version_id}/issue-preliminary"): READERS,
    ("GET", "/api/reports/{version_id}/changes"): PARTIES,
    ("GET", "/api/reports/{version_id}/review"): REVIEWER,
    ("PUT", "/api/reports/{version_id}/review"): REVIEWER,
    ("GET", "/api/reviews"): READERS,
    ("POST", "/api/reviews/{review_id}/read"): READERS,
    ("GET", "/api/conclusion-changes"): VIEWERS,
    ("POST", "/api/conclusion-changes/{change_id}/acknowledge"): RECEIVERS,
    ("GET", "/api/arbitrations"): PARTIES,
    ("POST", "/api/arbitrations/{arbitration_id}/decide"): PARTIES,
    ("POST", "/api/arbitrations/{arbitration_id}/read"): PARTIES,
    ("GET", "/api/peer"): REVIEWER,
    ("GET", "/api/peer/{peer_id}"): REVIEWER,
    ("POST", "/api/peer/{peer_id}/decline"): REVIEWER,
    ("POST", "/api/peer/{peer_id}/verdict"): REVIEWER,
    ("POST", "/api/peer/{peer_id}/grade"): REVIEWER,
    ("GET", "/api/review-figures"): OVERSEERS,
    ("GET", "/api/review-policies/{org_id}"): KEEPERS,
    ("PUT", "/api/review-policies/{org_id}"): KEEPERS,
}
ROUTES |= {
    ("GET", "/review/bar"): RECEIVERS | PARTIES,
    ("GET", "/reviews"): READERS,
    ("GET", "/peer"): REVIEWER,
    ("GET", "/peer/{peer_id}"): REVIEWER,
    ("GET", "/quality/reviews"): OVERSEERS,
    ("GET", "/admin/review-policy"): KEEPERS,
}
