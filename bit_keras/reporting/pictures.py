"""Images embedded in a page."""

import base64
import io
from collections.abc import Iterable

import numpy as np

THUMBNAIL = 128  # pixels, the longer side


def thumbnail(image: np.ndarray, alt: str) -> str:
    """An `<img>` of a uint8 `[H, W, 3]` image; `alt` is HTML."""
    from PIL import Image

    pixels = max(image.shape[:2]) <= THUMBNAIL // 2  # small enough to show each pixel
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    kind, stream = "png" if pixels else "jpeg", io.BytesIO()
    picture.save(stream, kind, optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    style = ' class="pixels"' if pixels else ""
    return f'<img{style} alt="{alt}" src="data:image/{kind};base64,{data}">'


def picture_grid(pictures: Iterable[tuple[str, str]], kind: str = "pictures") -> str:
    """(thumbnail, caption), both HTML, side by side in rows.

    `kind` is CSS classes: "pictures", or "pictures pairs" for two thumbnails in each.
    """
    figure = "<figure><div>{}</div><figcaption>{}</figcaption></figure>"
    figures = "".join(figure.format(*picture) for picture in pictures)
    return f'<div class="{kind}">{figures}</div>'
