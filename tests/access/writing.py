"""Writing: links, copied sentences, kept texts, phrases, import and export."""

from hub.accounts.roles import Role

WRITERS = {Role.REPORTER.value, Role.REVIEWER.value}
EDITORS = WRITERS | {Role.DIRECTOR.value}

ROUTES = {
    ("POST", "/api/exams/{exam_id}/report/links"): WRITERS,
    ("POST", "/api/exams/{exam_id}/report/copied/confirm"): WRITERS,
    ("GET", "/api/exams/{exam_id}/report/history"): WRITERS,
    ("POST", "/api/texts/difference"): WRITERS,
    ("GET", "/api/phrases"): EDITORS,
    ("POST", "/api/phrases"): EDITORS,
    ("PUT", "/api/phrases/{phrase_id}"): EDITORS,
    ("DELETE", "/api/phrases/{phrase_id}"): EDITORS,
    ("PUT", "/api/templates/{template_id}"): EDITORS,
    ("GET", "/api/texts/export"): EDITORS,
    ("POST", "/api/texts/import"): EDITORS,
    ("GET", "/templates"): EDITORS,
}
