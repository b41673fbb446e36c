"""Object storage: opaque keys to immutable bytes, on a filesystem or on any S3 server.

This package knows keys, ranges, sizes and hashes; never UIDs, patients or features of the hub.
"""
