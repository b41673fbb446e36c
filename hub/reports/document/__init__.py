"""The printed report: what it says (`content`) and how it becomes a PDF/A-2b (`render`, `layout.typ`)."""

from hub.reports.document.content import (
    Exam,
    Issuer,
    KeyFigure,
    Patient,
    ReportDocument,
    ReportKind,
    SignatureStatement,
)
from hub.reports.document.render import RenderedPdf, RenderError, ReplacedCharacter, render_pdf

__all__ = [
    "Exam",
    "Issuer",
    "KeyFigure",
    "Patient",
    "RenderError",
    "RenderedPdf",
    "ReplacedCharacter",
    "ReportDocument",
    "ReportKind",
    "SignatureStatement",
    "render_pdf",
]
