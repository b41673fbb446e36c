"""Public verification of reports."""

ROUTES = {
    ("GET", "/verify"): "public",
    ("GET", "/v/{code}"): "public",
    ("GET", "/api/verify/{code}"): "public",
    ("POST", "/api/verify"): "public",
}
