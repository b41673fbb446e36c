"""What goes home to the clinic."""

from hub.accounts.roles import Role

CLINIC = {Role.TECHNOLOGIST.value, Role.CLINICIAN.value, "machine:report"}

ROUTES = {
    ("GET", "/api/inbox"): CLINIC,
    ("POST", "/api/deliveries/{delivery_id}/seen"): CLINIC,
    ("GET", "/api/reports/{version_id}/pdf"): CLINIC
    | {Role.REPORTER.value, Role.REVIEWER.value, Role.EXPERT.value, Role.QUALITY.value, Role.DIRECTOR.value},
}
