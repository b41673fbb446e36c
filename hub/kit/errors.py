"""What services raise. The edge turns each into RFC 9457 problem details, or a page for a browser."""

from __future__ import annotations

from typing import Any

from hub.kit.i18n import Message, _


class HubError(Exception):
    """A refusal with words for the person who meets it.

    Attributes:
        status: HTTP status at the edge.
        code: Stable kebab-case identifier for programs.
        message: Sentence for people (Chinese source text, translated at the edge).
        detail: Further values for programs; never patient data.
    """

    status = 400
    code = "bad-request"

    def __init__(self, message: Message | str, *, code: str | None = None, **detail: Any) -> None:
        super().__init__(str(message))
        self.message = message
        self.code = code or type(self).code
        self.detail = detail


class Invalid(HubError):
    """The input is wrong; `fields` maps a field to its message."""

    status = 422
    code = "invalid"

    def __init__(
        self,
        message: Message | str = _("请检查填写的内容"),
        *,
        fields: dict[str, Message | str] | None = None,
        code: str | None = None,
        **detail: Any,
    ) -> None:
        super().__init__(message, code=code, **detail)
        self.fields = fields or {}


class Unauthenticated(HubError):
    """Nobody is logged in, or the key is not valid."""

    status = 401
    code = "unauthenticated"

    def __init__(self, message: Message | str = _("请先登录"), **kw: Any) -> None:
        super().__init__(message, **kw)


class Forbidden(HubError):
    """The actor's roles do not allow this."""

    status = 403
    code = "forbidden"

    def __init__(self, message: Message | str = _("您没有此项权限"), **kw: Any) -> None:
        super().__init__(message, **kw)


class NotFound(HubError):
    """It does not exist, or the actor may not know that it does."""

    status = 404
    code = "not-found"

    def __init__(self, message: Message | str = _("没有找到"), **kw: Any) -> None:
        super().__init__(message, **kw)


class Gone(HubError):
    """It was deleted; who could see it before may know that."""

    status = 410
    code = "gone"


class Conflict(HubError):
    """Someone else changed it first, or its state does not allow this event."""

    status = 409
    code = "conflict"


class TooLarge(HubError):
    """More bytes than the settings allow."""

    status = 413
    code = "too-large"


class TooMany(HubError):
    """Throttled."""

    status = 429
    code = "too-many-requests"


class Unavailable(HubError):
    """A dependency is out of reach or out of room; trying later may help."""

    status = 503
    code = "unavailable"
