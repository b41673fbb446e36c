"""Key images: what a reader took from the viewer into his report."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from PIL import Image

from hub.kit.errors import Invalid, TooLarge
from hub.kit.i18n import _
from hub.kit.objects import object_store
from storage.keys import new_key

MAX_BYTES = 12 * 1024 * 1024
MAX_PIXELS = 40_000_000
MAX_EDGE = 1600
NAMESPACE = "key-images"


def store(data: bytes, *, caption: str = "", sop_uid: str = "", frame: int | None = None) -> dict[str, Any]:
    """Put a key image in the object store.

    It is decoded and encoded anew: nothing but pixels comes in (no foreign metadata, nothing behind the image).

    Args:
        data: PNG or JPEG.
        caption: One line.
        sop_uid: The instance that it shows.
        frame: Its frame, from 1.

    Returns:
        `{key, sha256, type, width, height, caption, sop_uid, frame}`, as hub.reports.service.add_key_image takes it.

    Raises:
        TooLarge: More bytes or pixels than a report needs.
        Invalid: Not a readable image.
    """
    if len(data) > MAX_BYTES:
        raise TooLarge(_("图像太大"))
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise TooLarge(_("图像太大"))
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Invalid(_("无法读取这张图像"), code="bad-image") from None
    picture.thumbnail((MAX_EDGE, MAX_EDGE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=92, subsampling=0, optimize=True)
    body = out.getvalue()
    key, sha256 = new_key(NAMESPACE), hashlib.sha256(body).hexdigest()
    object_store().put(key, body, size=len(body), sha256=sha256, content_type="image/jpeg")
    return {
        "key": key,
        "sha256": sha256,
        "type": "image/jpeg",
        "width": picture.width,
        "height": picture.height,
        "caption": " ".join(caption.split())[:100],
        "sop_uid": sop_uid[:64],
        "frame": frame,
    }
