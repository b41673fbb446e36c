"""Rules, rota, rebalancing and alerts."""

from hub.accounts.roles import Role

READERS = {Role.REPORTER.value, Role.REVIEWER.value}
DIRECTOR = {Role.DIRECTOR.value}
KEEPERS = DIRECTOR | {Role.ADMINISTRATOR.value}
QUEUE = READERS | DIRECTOR
ALERTED = READERS | KEEPERS

ROUTES = {
    ("GET", "/admin/routing"): KEEPERS,
    ("GET", "/admin/rota"): ALERTED,
    ("GET", "/admin/rota/table"): ALERTED,
    ("GET", "/alerts"): ALERTED,
    ("GET", "/alerts/rows"): ALERTED,
    ("GET", "/queue/board"): QUEUE,
    ("GET", "/api/routing/plan"): KEEPERS,
    ("GET", "/api/routing/plan/{number}"): KEEPERS,
    ("PUT", "/api/routing/plan"): KEEPERS,
    ("POST", "/api/routing/dry-run"): KEEPERS,
    ("GET", "/api/exams/{exam_id}/route"): QUEUE,
    ("GET", "/api/rota"): ALERTED,
    ("POST", "/api/rota"): KEEPERS,
    ("PUT", "/api/rota/{shift_id}"): KEEPERS,
    ("DELETE", "/api/rota/{shift_id}"): KEEPERS,
    ("POST", "/api/rota/import"): KEEPERS,
    ("GET", "/api/rota/export.csv"): ALERTED,
    ("PUT", "/api/rota/skills/{person_id}"): KEEPERS,
    ("GET", "/api/queue/loads"): DIRECTOR,
    ("GET", "/api/queue/balance"): DIRECTOR,
    ("POST", "/api/queue/balance"): DIRECTOR,
    ("GET", "/api/alerts"): ALERTED,
    ("POST", "/api/alerts/acknowledge"): ALERTED,
}
