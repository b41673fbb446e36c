"""DICOM's own protocol (DIMSE over TCP): storage, storage commitment, query and retrieve for registered devices."""
