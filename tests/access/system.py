"""Health and the operator's page."""

ROUTES = {
    ("GET", "/healthz"): "public",
    ("GET", "/readyz"): "public",
    ("GET", "/metrics"): "public",
    ("GET", "/system"): {"operator"},
    ("POST", "/api/system/jobs/retry"): {"operator"},
}
