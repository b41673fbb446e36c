"""Upload: batches and tus."""

UPLOADERS = {"technologist", "machine:stow"}

ROUTES = {
    ("POST", "/api/uploads"): UPLOADERS,
    ("GET", "/api/uploads"): UPLOADERS,
    ("GET", "/api/uploads/{batch_id}"): UPLOADERS,
    ("POST", "/api/uploads/{batch_id}/known"): UPLOADERS,
    ("POST", "/api/uploads/{batch_id}/close"): UPLOADERS,
    ("OPTIONS", "/api/tus"): "public",
    ("POST", "/api/tus"): UPLOADERS,
    ("HEAD", "/api/tus/{file_id}"): UPLOADERS,
    ("PATCH", "/api/tus/{file_id}"): UPLOADERS,
    ("DELETE", "/api/tus/{file_id}"): UPLOADERS,
}
