"""The tus resumable upload protocol over the intake of studies."""
