"""The queue and the reading page."""

from hub.accounts.roles import Role

READERS = {Role.REPORTER.value, Role.REVIEWER.value}
QUEUE = READERS | {Role.DIRECTOR.value}

ROUTES = {
    ("GET", "/api/queue"): QUEUE,
    ("POST", "/api/queue/next"): READERS,
    ("POST", "/api/queue/ahead"): READERS,
    ("POST", "/api/exams/{exam_id}/claim"): READERS,
    ("POST", "/api/exams/{exam_id}/lease"): READERS,
    ("POST", "/api/exams/{exam_id}/release"): READERS,
    ("POST", "/api/exams/{exam_id}/take-over"): QUEUE,
    ("POST", "/api/exams/{exam_id}/late-images-seen"): READERS,
    ("GET", "/queue"): QUEUE,
    ("GET", "/queue/rows"): QUEUE,
    ("GET", "/read/{exam_id}"): QUEUE,
    ("GET", "/read/{exam_id}/panel"): QUEUE,
}
