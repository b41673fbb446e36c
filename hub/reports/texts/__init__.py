"""Writing a report: fields to fill in, phrases, sentences copied from earlier reports, links to images, kept texts."""
