"""Draws the glyphs of one font; a glyph that the font also uses for a digit is left out.

Every process of `glyphs.render` imports this file, so it does not import TensorFlow.
"""

from pathlib import Path

from PIL import Image, ImageFont

DIGITS = "0123456789"
EM = 96  # pixels at which a glyph is drawn before it is scaled to its picture
FILL = 0.72  # longer side of a glyph's bounding box / side of its picture


def draw_font(job: tuple[Path, list[str]], size: int) -> dict[str, bytes]:
    """Draws some characters of a font, each centered in its picture.

    Args:
        job: (font file, characters).
        size: Side of a picture in pixels.

    Returns:
        {character: the picture's size * size bytes, ink 255 on 0}, without characters that the font
        draws empty, as its box for a missing character, or as a digit.
    """
    path, characters = job
    try:
        # The basic layout draws the character alone, without its script's shaping rules.
        font = ImageFont.truetype(str(path), EM, layout_engine=ImageFont.Layout.BASIC)
    except OSError:  # a font of bitmaps has no such size
        return {}

    def draw(character: str) -> bytes | None:
        try:
            mask = font.getmask(character, mode="L")
        except OSError:  # a damaged glyph
            return None
        ink = Image.frombytes("L", mask.size, bytes(mask))
        box = ink.getbbox()
        if box is None:
            return None
        ink = ink.crop(box)
        scale = FILL * size / max(ink.size)
        width, height = (max(1, round(scale * side)) for side in ink.size)
        picture = Image.new("L", (size, size))
        ink = ink.resize((width, height), Image.Resampling.BOX)
        picture.paste(ink, ((size - width) // 2, (size - height) // 2))
        return picture.tobytes()

    unwanted = {draw(character) for character in DIGITS + "\U0010ffff"} | {None}
    pictures = {character: draw(character) for character in characters}
    return {c: picture for c, picture in pictures.items() if picture not in unwanted}
