"""Images in a request: data URLs to pictures, bounded, and nothing ever fetched.

This module does not know messages or models.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from bloomery.core.errors import DataError, RequestError
from bloomery.corpus.picture_file import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGES = 16
"""Of one request."""
_MAX_PIXELS = 16 * 1024 * 1024
_HEAD = re.compile(r"data:image/(png|jpe?g|webp|gif);base64,", re.IGNORECASE)


def picture_of(url: str, where: str) -> Image:
    """The picture of a data URL. RequestError naming `where` for any other URL, broken base64, and what is no picture
    of a known format, or too large."""
    head = _HEAD.match(url)
    if head is None:
        kind = url.split(":", 1)[0][:20] if ":" in url[:30] else ""
        said = f"{kind!r} URLs are not" if kind not in ("", "data") else "this is not"
        raise RequestError(
            f"{where}: {said} read: only data:image/png, jpeg, webp or gif in base64, nothing is fetched",
            param=where,
            code="invalid_image_url",
        )
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{where}: broken base64: {error}", param=where, code="invalid_image_url") from error
    try:
        return open_image(data, max_pixels=_MAX_PIXELS)
    except DataError as error:
        raise RequestError(f"{where}: {error.message}", param=where, code="invalid_image") from error
