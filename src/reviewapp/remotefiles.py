"""Files under a URL that fsspec knows (`s3://bucket/path`, `memory://…`, `file:///…`), with one kind of error.

fsspec is an extra, and each kind of URL may need a library of its own; where they find keys and addresses is theirs to
say. Nothing is connected to before a file is asked for, and then by each process for itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import NotReady, UsageError

log = logging.getLogger("reviewapp")

BLOCK = 1 << 20
ASK_AGAIN = 2  # seconds


class RemoteFiles:
    """What lies under a URL; a path is given as its parts. Raises UsageError where a library for it is missing.

    All methods raise NotReady where the store cannot be reached or refuses; the cause goes to the log.
    """

    def __init__(self, url: str) -> None:
        self._url, self._library = url, _fsspec(url)
        self._made: tuple[Any, str] | None = None

    def __str__(self) -> str:
        """Return the URL without what it may hold of a name and a password."""
        return self._without_secret(self._url)

    def _without_secret(self, text: str) -> str:
        before, at, _ = urlsplit(self._url).netloc.rpartition("@")
        return text.replace(before + at, "").replace(before, "…") if at else text

    def read(self, *path: str | int) -> Iterator[bytes]:
        """Yield a file in blocks; raise FileNotFoundError where there is none."""
        self._asked(lambda fs: fs.invalidate_cache())  # of what lay where
        file = self._asked(lambda fs: fs.open(self._path(*path), "rb"))
        with file:
            while block := self._asked(lambda _: file.read(BLOCK)):
                yield block

    def write(self, content: bytes, *path: str | int) -> None:
        self._asked(lambda fs: fs.makedirs(self._path(*path[:-1]), exist_ok=True))
        self._asked(lambda fs: fs.pipe_file(self._path(*path), content))

    def upload(self, file: Path, *path: str | int) -> None:
        self._asked(lambda fs: fs.makedirs(self._path(*path[:-1]), exist_ok=True))
        self._asked(lambda fs: fs.put_file(str(file), self._path(*path)))

    def remove(self, *path: str | int) -> None:
        self._asked(lambda fs: fs.rm_file(self._path(*path)))

    def rename(self, name: str, *path: str | int) -> None:
        """Move the files of a folder to another one beside it; of folders, not every store has more than names."""
        old, new, files = self._path(*path), self._path(*path[:-1], name), sorted(self.names(*path))

        def move(fs: Any) -> None:
            fs.makedirs(new, exist_ok=True)
            for file in files:
                fs.mv(f"{old}/{file}", f"{new}/{file}")

        self._asked(move)

    def names(self, *path: str | int) -> set[str]:
        """Return what lies in a folder, as it is now; nothing where there is none."""
        self._asked(lambda fs: fs.invalidate_cache())
        try:
            found = self._asked(lambda fs: fs.ls(self._path(*path), detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {str(one).rstrip("/").rpartition("/")[2] for one in found} - {""}

    def _path(self, *names: str | int) -> str:
        return "/".join([self._opened()[1], *map(str, names)])

    def _opened(self) -> tuple[Any, str]:
        """Return what fsspec makes of the URL: a file system and a path in it."""
        if self._made is None:
            fs, root = self._library.core.url_to_fs(self._url)
            self._made = fs, root.rstrip("/")
        return self._made

    def _asked(self, call: Callable[[Any], Any]) -> Any:
        """Return what the file system answers to a call. That something is not there is an answer, too."""
        try:
            return call(self._opened()[0])
        except (FileNotFoundError, NotADirectoryError):
            raise
        except Exception as error:  # each library has its own
            log.warning("%s: %s: %s", self, type(error).__name__, self._without_secret(str(error)))
            raise NotReady(
                f"The store of releases (REVIEWAPP_RELEASES) cannot be used now ({type(error).__name__}).",
                retry_after=ASK_AGAIN,
            ) from error


def _fsspec(url: str) -> Any:
    try:
        import fsspec.core  # noqa: PLC0415 (an extra)
    except ImportError:
        raise UsageError(
            "REVIEWAPP_RELEASES is a URL, for which fsspec is needed: pip install 'reviewapp[hosts]'."
        ) from None
    try:
        fsspec.get_filesystem_class(url.partition("://")[0].rpartition("::")[2])
    except (ImportError, ValueError) as error:
        raise UsageError(f"REVIEWAPP_RELEASES cannot be used: {error}.") from None
    return fsspec
