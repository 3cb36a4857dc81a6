"""Every request and reply on disk, one JSON line each, as they come."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trm.support.errors import InputError

FORMAT = 1  # of the lines
KIND = "trm.baselines.llm"
# Says where and by what code a run was made; a run may go on elsewhere.
_DECIDES_NOTHING = {"certificate"}

Entry = dict[str, Any]


class Store:
    """A header line, then a line for every reply or error; nothing is written before the first.

    Attributes:
        path: of the file
        header: the settings of the run; ``kind`` comes first
        entries: by the puzzle's index; of several for one puzzle the last, which is the reply
            where there is one
    """

    def __init__(self, path: Path, header: Mapping[str, Any], entries: dict[int, Entry]) -> None:
        self.path, self.header, self.entries = path, dict(header), entries

    @classmethod
    def open(cls, path: Path, header: Mapping[str, Any]) -> "Store":
        """Begin a store, or go on with one of the same settings.

        A line that was cut short when the run was killed is dropped.

        Raises:
            InputError: a file of other settings, or no such file at all
        """
        if path.is_dir():
            raise InputError(f"--store {path} is a folder; name a file")
        whole = _whole_bytes(path)
        if not whole:
            _drop_torn_header(path)
            return cls(path, header, {})
        store = cls.read(path)
        expected = json.loads(json.dumps(header))  # as it will be read back
        for name in sorted((store.header.keys() | expected.keys()) - _DECIDES_NOTHING):
            before, now = store.header.get(name), expected.get(name)
            if before != now:
                raise InputError(
                    f"{path} was made with {name}={_short(before)}, now it is {_short(now)}; name "
                    f"another --store"
                )
        if len(whole) < path.stat().st_size:
            os.truncate(path, len(whole))
        return store

    @classmethod
    def read(cls, path: Path) -> "Store":
        """Read a store as it is.

        Raises:
            InputError: no such file, or one that is no store of this version
        """
        lines = _whole_bytes(path).splitlines()
        if not lines:
            raise InputError(f"{path} does not exist or holds no run")
        try:
            header, *rest = (json.loads(line) for line in lines)
            entries: dict[int, Entry] = {}
            for entry in rest:
                _ = entry["reply"] if "error" not in entry else entry["error"]
                entries[int(entry["index"])] = entry
            kind, version = header["kind"], header["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is no store of replies, or is damaged ({error})") from None
        if (kind, version) != (KIND, FORMAT):
            raise InputError(f"{path} is {kind} of format {version}; this reads {KIND} of {FORMAT}")
        return cls(path, header, entries)

    def has_reply(self, index: int) -> bool:
        """Tell whether a puzzle is done; one that failed is not."""
        return "reply" in self.entries.get(index, {})

    @property
    def usd(self) -> float:
        """What all replies, and errors that may have been paid for, have cost."""
        return sum(entry.get("usd", 0.0) for entry in self.entries.values())

    def append(self, entry: Entry) -> None:
        """Write a line, and see that it leaves this process.

        Raises:
            InputError: the disk is full, or does not let us write
        """
        earlier = self.entries.get(entry["index"], {})
        # An error that is tried again stays paid.
        entry = entry | {"usd": entry.get("usd", 0.0) + earlier.get("usd", 0.0)}
        size = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                size = file.tell()
                lines = [entry] if size else [self.header, entry]
                # ASCII: a reply may hold halves of characters, which UTF-8 cannot.
                file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        except OSError as error:
            if size is not None:  # or the next line would continue a broken one
                os.truncate(self.path, size)
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from None
        self.entries[entry["index"]] = entry


def _whole_bytes(path: Path) -> bytes:
    """Read the lines that were written to their end; a file that is not there has none."""
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return contents[: contents.rfind(b"\n") + 1]


def _drop_torn_header(path: Path) -> None:
    """Empty a file that holds the beginning of a header; another file is not ours to empty."""
    if not path.exists() or not (torn := path.read_bytes()):
        return
    ours = json.dumps({"kind": KIND})[:-1].encode()
    if not torn.startswith(ours[: len(torn)]):
        raise InputError(f"{path} is no store of replies; name another --store")
    os.truncate(path, 0)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
