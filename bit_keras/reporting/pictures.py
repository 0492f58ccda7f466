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
    style = ' class="pixels"' if pixels else ""
    return _embedded(picture, alt, "png" if pixels else "jpeg", style)


def drawing(image: np.ndarray, alt: str) -> str:
    """An `<img>` of a uint8 `[H, W, 3]` picture in its own size; `alt` is HTML."""
    from PIL import Image

    picture = Image.fromarray(image)
    size = f' width="{picture.width}" height="{picture.height}"'
    # Colors as sharp as brightness, for thin lines and small letters.
    return _embedded(picture, alt, "jpeg", size, quality=80, subsampling=0)


def _embedded(picture, alt, kind, attributes, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, optimize=True, **options)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img{attributes} alt="{alt}" src="data:image/{kind};base64,{data}">'


def picture_grid(pictures: Iterable[tuple[str, str]], kind: str = "pictures") -> str:
    """(thumbnail, caption), both HTML, side by side in rows.

    `kind` is CSS classes: "pictures", "pictures pairs" for two thumbnails in each, or "pictures
    drawings" for two drawings.
    """
    figure = "<figure><div>{}</div><figcaption>{}</figcaption></figure>"
    figures = "".join(figure.format(*picture) for picture in pictures)
    return f'<div class="{kind}">{figures}</div>'
