"""Pages, templates, static files and the words of the user interface."""
