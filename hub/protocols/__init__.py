"""Translations between the outside's protocols and the services."""
