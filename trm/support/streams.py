"""Lines and values that come one by one from a file or pipe."""

import codecs
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from queue import Empty, Queue
from threading import Thread
from typing import TypeVar

_MORE_WITHIN_S = 0.02  # whoever writes many puzzles has written the next ones by then

T = TypeVar("T")


def decoded(stream: BufferedReader) -> Iterator[str]:
    """Yield the lines of a file or pipe, whatever of UTF-8 and UTF-16 it is written in.

    What is neither is read with a sign in the place of each foreign byte.
    """
    start = stream.peek(2)[:2]
    utf16 = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = TextIOWrapper(stream, "utf-16" if utf16 else "utf-8-sig", errors="replace")
    try:
        yield from text
    finally:
        text.detach()  # whoever opened the stream closes it


def as_they_come(items: Iterator[T], most: int) -> Iterator[list[T]]:
    """Yield what is there in groups of at most so many, as soon as there is anything.

    Another thread reads on, at most as many ahead. It ends with the process, so a pipe that stays
    silent holds nobody back.

    Raises:
        Exception: whatever reading raises
    """
    waiting: Queue[T | _End] = Queue(most)
    Thread(target=_read_on, args=(items, waiting), daemon=True).start()
    end: _End | None = None
    while end is None:
        group, until = [waiting.get()], time.monotonic() + _MORE_WITHIN_S
        with suppress(Empty):
            while len(group) < most and not isinstance(group[-1], _End):
                group.append(waiting.get(timeout=max(until - time.monotonic(), 0)))
        last = group[-1]
        end = last if isinstance(last, _End) else None
        if part := [each for each in group if not isinstance(each, _End)]:
            yield part
    if end.error is not None:
        raise end.error


@dataclass(frozen=True)
class _End:
    """What ended the reading: an error, or nothing but the last line."""

    error: Exception | None = None


def _read_on(items: Iterator[T], waiting: "Queue[T | _End]") -> None:
    try:
        for item in items:
            waiting.put(item)
    except Exception as error:  # raised in the thread that waits
        waiting.put(_End(error))
    else:
        waiting.put(_End())
