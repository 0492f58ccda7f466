"""The colors of lines, as CSS."""

from html import escape

# On white and on black. Found by search: for every kind of color vision any two differ by 0.11 or
# more in Oklab, and each has a contrast of 3 or more with the background.
COLORS = (
    ("#0062a0", "#56b4e9"),
    ("#c85200", "#f0a01e"),
    ("#8700f0", "#d20fff"),
    ("#5a1e1e", "#969687"),
    ("#b47896", "#d22d0f"),
    ("#002d78", "#ffd296"),
    ("#8778e1", "#0078a5"),
    ("#873c4b", "#a5e1ff"),
)
DASHES = ((), (6, 3), (2, 3), (8, 3, 2, 3))  # of the first 8 lines, the next 8, ...


def color_style() -> str:
    """Returns CSS: the properties `--c0` … (red, green, blue) and the classes `c0` … of lines."""

    def properties(paper):
        triplets = (" ".join(map(str, bytes.fromhex(pair[paper][1:]))) for pair in COLORS)
        return " ".join(f"--c{i}: {triplet};" for i, triplet in enumerate(triplets))

    classes = [f".c{i} {{ --line: var(--c{i}) }}\n" for i in range(len(COLORS))]
    for i, dashes in enumerate(DASHES[1:], 1):
        classes.append(f".d{i} {{ stroke-dasharray: {' '.join(map(str, dashes))} }}\n")
    return (
        f":root {{ {properties(0)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {properties(1)} }} }}\n{''.join(classes)}"
    )


def color_class(index: int) -> str:
    """Returns the CSS classes of the index-th line."""
    return f"c{index % len(COLORS)} d{index // len(COLORS) % len(DASHES)}"


def key(name: str, index: int) -> str:
    """Returns a name beside a sample of its line."""
    sample = '<svg viewBox="0 0 28 6"><path d="M0 3H28"/></svg>'
    return f'<span class="key {color_class(index)}">{sample}{escape(name)}</span>'
