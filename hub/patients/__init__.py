"""The county patient index: identifiers per organisation, links, conflicts."""
