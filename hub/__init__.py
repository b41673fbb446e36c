"""The web application, its services and the `hub` command."""
