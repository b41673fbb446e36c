"""The archive: study, series, instance, intake, completeness, quarantine."""
