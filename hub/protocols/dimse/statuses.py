"""Status codes of responses (PS3.4 annexes B, C and J, PS3.7 annex C), and what the hub means by them."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
INVALID_ARGUMENT: Final = 0x0115
NO_SUCH_CLASS: Final = 0x0122
NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORISED: Final = 0x0124
RESOURCE_LIMITATION: Final = 0x0213
OUT_OF_RESOURCES: Final = 0xA700
NO_MATCHES_CALCULATED: Final = 0xA701
SUBOPERATIONS_FAILED: Final = 0xA702
UNKNOWN_DESTINATION: Final = 0xA801
DOES_NOT_MATCH_CLASS: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
CHANGED_CONTENT: Final = 0xC010
IDENTIFIER_CONFLICT: Final = 0xC011
UNABLE_TO_PROCESS: Final = 0xC001
SUBOPERATIONS_WARNING: Final = 0xB000
ELEMENTS_DOUBTFUL: Final = 0xB007
CANCELLED: Final = 0xFE00
PENDING: Final = 0xFF00
PENDING_SOME_KEYS_UNSUPPORTED: Final = 0xFF01

STORE: Final[dict[int, str]] = {
    SUCCESS: "The instance is stored durably, or was known.",
    ELEMENTS_DOUBTFUL: "Stored as it came; something in it is incomplete (pixel data too short, no image size …).",
    OUT_OF_RESOURCES: "No room, a store or the database is out of reach, or the instance is too large: send it later.",
    DOES_NOT_MATCH_CLASS: "SOP Class or Instance UID of the request are not those of the data set; kept in quarantine.",
    NOT_UNDERSTOOD: "No acceptable DICOM data set; kept in quarantine.",
    CHANGED_CONTENT: "Other bytes under a known SOP Instance UID; both are kept, a person compares them.",
    IDENTIFIER_CONFLICT: "Study, series or instance UID belong to another patient or sender; kept in quarantine.",
    PROCESSING_FAILURE: "The hub failed on the data set; kept in quarantine.",
    NO_SUCH_CLASS: "The abstract syntax of the context is no storage class.",
    NOT_AUTHORISED: "The device may not send.",
}
FIND: Final[dict[int, str]] = {
    SUCCESS: "All matches were sent.",
    PENDING: "A match.",
    PENDING_SOME_KEYS_UNSUPPORTED: "A match; some optional keys were not looked at.",
    CANCELLED: "Cancelled by the device.",
    OUT_OF_RESOURCES: "More matches than the hub sends at once, or the database is out of reach.",
    DOES_NOT_MATCH_CLASS: "The identifier does not fit the SOP class: level, or a unique key that is missing.",
    UNABLE_TO_PROCESS: "The identifier cannot be read, or a key has a value that cannot be matched.",
    NOT_AUTHORISED: "The device may not query.",
}
RETRIEVE: Final[dict[int, str]] = {
    SUCCESS: "All instances were sent (none, where nothing matched).",
    PENDING: "Sub-operations are continuing.",
    SUBOPERATIONS_WARNING: "Some instances were not sent, or the receiver warned; the failed ones are listed.",
    CANCELLED: "Cancelled by the device.",
    NO_MATCHES_CALCULATED: "The database is out of reach.",
    SUBOPERATIONS_FAILED: "No instance could be sent; the failed ones are listed.",
    UNKNOWN_DESTINATION: "C-MOVE: no device of the organisation listens under that AE title, or it does not answer.",
    DOES_NOT_MATCH_CLASS: "The identifier does not fit the SOP class: level, or a unique key that is missing.",
    UNABLE_TO_PROCESS: "The identifier cannot be read.",
    NOT_AUTHORISED: "The device may not retrieve.",
}
COMMITMENT: Final[dict[int, str]] = {
    SUCCESS: "The request is written down; the report follows.",
    NO_SUCH_INSTANCE: "The request was not sent to the well-known instance.",
    NO_SUCH_ACTION: "Another action than 1.",
    INVALID_ARGUMENT: "Transaction UID or references are missing or malformed.",
    RESOURCE_LIMITATION: "More references than the hub takes at once.",
    PROCESSING_FAILURE: "The request could not be written down.",
    NOT_AUTHORISED: "The device may not send, so that there is nothing to commit.",
}


def comment(text: str) -> str:
    """A sentence as Error Comment (0000,0902): LO, at most 64 characters of the default repertoire."""
    plain = "".join(char if " " <= char <= "~" and char != "\\" else "?" for char in text)
    return plain if len(plain) <= 64 else plain[:61] + "..."
