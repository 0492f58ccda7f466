"""Damages files in the ways of broken disks and of hostile hands, by a seed."""

import copy
import random
import resource
import tracemalloc

import pytest

LEAST_MEMORY = 20_000_000  # bytes, for what reading takes whatever the file
# Every case of the few is among the many.
few_or_many = pytest.mark.parametrize("cases", [100, pytest.param(2_000, marks=pytest.mark.slow)])
_NATIVE = 500_000  # kilobytes by which the process may grow, libraries in other languages included

ODD_BYTES = (b"", b"\0", b"\xff" * 8, b"9" * 30, b"-1", b"nan", b"1e999", b"\n", b"{", b"]", b"<")
ODD_VALUES = (
    *(None, True, -1, 0, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), -0.5),
    *("", "x", "nan", "\0", "\ud800", "../../x", "/", ".", "9" * 40, "x" * 300, "a\nb"),
    *([], {}, [[]], [None], {"a": 1}),
)


def damaged(content, random):
    """Bytes with one to four changes: flipped, cut, removed, doubled, moved, or made odd."""
    content = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        if not content:
            break
        a = random.randrange(len(content))
        b = min(len(content), a + random.choice((1, 2, 8, 64, 1024)))
        change = random.randrange(7)
        if change == 0:
            content[a] ^= 1 << random.randrange(8)
        elif change == 1:
            del content[a:]
        elif change == 2:
            del content[a:b]
        elif change == 3:
            content[a:a] = content[a:b]
        elif change == 4:
            content[a:b] = random.randbytes(b - a)
        elif change == 5:
            at = random.randrange(len(content))
            content[at:at] = content[a:b]
        else:
            content[a:b] = random.choice(ODD_BYTES)
    return bytes(content)


def altered(value, random):
    """A JSON value with one to three of its parts replaced, removed, doubled or exchanged."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = [*_places(value)]
        if not places:
            break
        holder, key = random.choice(places)
        change = random.randrange(5)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif change == 2:
            other, name = random.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = copy.deepcopy(other[name])
        else:
            holder[key] = copy.deepcopy(random.choice(ODD_VALUES))
    return value


def _places(value):
    """(holder, key) of every part of a JSON value."""
    for key in [*value] if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def seeded(case):
    """A source of random numbers for a case of a test."""
    return random.Random(case)


def _most_resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fuzz(cases, write, read, refusal):
    """Writes and reads every case: it is read, or refused in a few words, in little memory.

    Of every third case all memory of Python is measured, of the others how the process grows.

    Args:
        cases: How many.
        write: Writes what a case is of, given a source of random numbers and the number of the
            case, and returns its bytes.
        read: Reads what was written.
        refusal: The type of the errors that are ours.

    Returns:
        How many were read.
    """
    sound, resident = 0, _most_resident()
    for case in range(cases):
        size, peak = write(seeded(case), case), 0
        if case % 3 == 0:  # it takes thrice the time
            tracemalloc.start()
        try:
            read()
            sound += 1
        except refusal as error:
            if len(str(error)) > 3_000:
                raise AssertionError(f"case {case}: a long message") from error
        except Exception as error:
            raise AssertionError(f"case {case}: {error!r}") from error
        finally:
            if tracemalloc.is_tracing():
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
        assert peak < LEAST_MEMORY + 2 * size, f"case {case} takes {peak:,} bytes"
        assert _most_resident() < resident + _NATIVE, case
    return sound
