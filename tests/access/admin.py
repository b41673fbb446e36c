"""People, organisations, API keys and the audit log."""

ADMINISTRATOR = {"administrator"}

ROUTES = {
    ("GET", "/admin/people"): ADMINISTRATOR,
    ("GET", "/api/admin/people"): ADMINISTRATOR,
    ("POST", "/api/admin/people"): ADMINISTRATOR,
    ("PATCH", "/api/admin/people/{person_id}"): ADMINISTRATOR,
    ("POST", "/api/admin/people/{person_id}/password"): ADMINISTRATOR,
    ("DELETE", "/api/admin/people/{person_id}/sessions"): ADMINISTRATOR,
    ("GET", "/admin/organisations"): ADMINISTRATOR,
    ("GET", "/api/admin/organisations"): ADMINISTRATOR,
    ("POST", "/api/admin/organisations"): ADMINISTRATOR,
    ("PATCH", "/api/admin/organisations/{org_id}"): ADMINISTRATOR,
    ("PUT", "/api/admin/organisations/{org_id}/readers"): ADMINISTRATOR,
    ("GET", "/api/admin/keys"): ADMINISTRATOR,
    ("POST", "/api/admin/keys"): ADMINISTRATOR,
    ("DELETE", "/api/admin/keys/{key_id}"): ADMINISTRATOR,
    ("GET", "/admin/audit"): ADMINISTRATOR,
    ("GET", "/api/admin/audit"): ADMINISTRATOR,
    ("GET", "/api/admin/audit/export.csv"): ADMINISTRATOR,
    ("GET", "/api/docs"): "public",
}
