"""Turnaround: whoever answers for the county's times; limits are set by director and administrator."""

MEASURE = {"quality", "director", "administrator"}
SETTINGS = {"director", "administrator"}

ROUTES = {
    ("GET", "/turnaround"): MEASURE,
    ("GET", "/turnaround/board"): MEASURE,
    ("GET", "/turnaround/waits"): MEASURE,
    ("GET", "/turnaround/exams"): MEASURE,
    ("GET", "/turnaround/exams/{exam_id}"): MEASURE,
    ("GET", "/turnaround/settings"): SETTINGS,
    ("GET", "/api/turnaround/today"): MEASURE,
    ("GET", "/api/turnaround/summary"): MEASURE,
    ("GET", "/api/turnaround/waits"): MEASURE,
    ("GET", "/api/turnaround/exams"): MEASURE,
    ("GET", "/api/turnaround/export.csv"): MEASURE,
    ("GET", "/api/turnaround/export.xlsx"): MEASURE,
    ("GET", "/api/turnaround/settings"): MEASURE,
    ("PUT", "/api/turnaround/settings/limits"): SETTINGS,
    ("PUT", "/api/turnaround/settings/calendar"): SETTINGS,
}
