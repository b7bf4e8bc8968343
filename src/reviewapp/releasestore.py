"""Where releases lie: in a folder, or under any URL that fsspec knows. All other code sees local folders alone.

Below a URL lies what lies in a folder: `<name>/<version>/` and the files in it, so that one may be copied to the other.
What lies there is fetched once for each host, by its digest (fetched.py). A release that is put there has a number that
was claimed before (`.claims/`), and its manifest comes last: what has none is no release.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from .config import Settings
from .errors import ReleaseRefused
from .fetched import FOLDER as FETCHED
from .fetched import Fetched
from .manifest import MANIFEST, MAX_FILE, MAX_MANIFEST, Identity, read_manifest
from .remotefiles import RemoteFiles
from .staging import held, sync

LOCK = ".lock"
CLAIMS = ".claims"


@dataclass(frozen=True)
class Folder:
    """Releases in a folder of this host, which are used as they lie there."""

    root: Path
    remote = False

    def __str__(self) -> str:
        return str(self.root)

    @property
    def here(self) -> Path:
        """The folder on this host, which may not be there yet."""
        return self.root

    def local(self, wanted: Identity) -> Path:
        """Return the folder of a release, which may not be there, or not be that one."""
        name, version, _ = wanted
        return self.root / name / str(version)

    @contextmanager
    def as_it_lies(self, wanted: Identity) -> Iterator[Path]:
        """Give the folder of a release as it is in the place where releases lie."""
        yield self.local(wanted)

    def put(self, made: Path, name: str, digest: str, number: Callable[[int], None]) -> int:
        """Move a folder to its place, in one step; return its version, which `number` was told to write into it.

        Versions count through all names; two builds at once get different ones.
        """
        home = self.root / name
        with held(self.root / LOCK):  # between the look at what is taken and the rename nobody else may take one
            version = 1 + max((taken for one in self.root.iterdir() for taken in versions(one)), default=0)
            number(version)
            made.chmod(0o755)
            for one in (*made.iterdir(), made):
                sync(one)  # before its name is: the ledger will know it, and a lost machine must not leave it empty
            home.mkdir(exist_ok=True)
            made.rename(home / str(version))
        sync(home)
        sync(self.root)
        return version

    def stock(self, wanted: Iterable[Identity], use: Callable[[Path, str], None]) -> bool:
        """There is nothing to fetch."""
        return True

    def unfinished(self) -> list[str]:
        """There is never half a release."""
        return []


class Remote:
    """Releases under a URL; `patience` is for how many seconds somebody waits for one to be fetched to `folder`."""

    remote = True

    def __init__(self, url: str, folder: Path, patience: float | None = None) -> None:
        self._files, self._fetched = RemoteFiles(url), Fetched(folder, self._fetch, patience)

    def __str__(self) -> str:
        return str(self._files)

    @property
    def here(self) -> Path:
        return self._fetched.folder

    def local(self, wanted: Identity) -> Path:
        """Return the folder of a release on this host; raise ReleaseRefused or NotReady where it cannot be had."""
        return self._fetched.get(wanted)

    @contextmanager
    def as_it_lies(self, wanted: Identity) -> Iterator[Path]:
        """Give a folder with the release as it is under the URL now, whatever was fetched before; raise alike."""
        with TemporaryDirectory() as folder:
            self._fetch(wanted, Path(folder))
            yield Path(folder)

    def stock(self, wanted: Iterable[Identity], use: Callable[[Path, str], None]) -> bool:
        """Have all that is wanted here, used once, and drop the rest; return whether that is done (fetched.py)."""
        return self._fetched.stock(wanted, use)

    def _fetch(self, wanted: Identity, into: Path) -> None:
        """Fetch the files that the manifest lists, once it is the one with the digest."""
        name, version, _ = wanted
        for file in chain([MANIFEST], self._listed(wanted, into)):
            most, kept = MAX_MANIFEST if file == MANIFEST else MAX_FILE, into / file
            try:
                with kept.open("xb") as target:
                    for block in self._files.read(name, version, file):
                        if target.tell() + len(block) > most:
                            raise ReleaseRefused(f"{file} has more than {most:,} bytes, which is refused.")
                        target.write(block)
            except FileNotFoundError:
                raise ReleaseRefused(f"There is no {name}/{version}/{file} where releases lie.") from None

    def _listed(self, wanted: Identity, into: Path) -> Iterator[str]:
        """Yield what is listed in a manifest that is there by the time the first one is asked for."""
        for file in read_manifest(into, wanted[2])["files"]:
            if Path(file).name != file:
                raise ReleaseRefused(f"Its manifest lists {file!r}, which is no name of a file.")
            yield file

    # ---- putting ----------------------------------------------------------------------------------------------

    def put(self, made: Path, name: str, digest: str, number: Callable[[int], None]) -> int:
        """Put a folder there, its manifest last, and keep it here; return its version as Folder.put does.

        Raise NotReady where that fails: what is there then has no manifest, and is no release.
        """
        version, claim = self._claim()
        number(version)
        self.upload(made, name, version)
        self._files.remove(CLAIMS, claim)
        self._fetched.keep(made, (name, version, digest))
        return version

    def upload(self, made: Path, name: str, version: int) -> None:
        """Put the files of a folder under a number that nobody else has."""
        for one in sorted(made.iterdir(), key=lambda path: path.name == MANIFEST):
            self._files.upload(one, name, version, one.name)

    def holds(self, name: str, version: int) -> bool:
        """Whether anything lies in the place of a release."""
        return bool(self._files.names(name, version))

    def put_aside(self, name: str, version: int, suffix: str) -> str | None:
        """Rename what lies in the place of a release, if anything does; return what it is called now."""
        if not self.holds(name, version):
            return None
        self._files.rename(f"{version}.{suffix}", name, version)
        return f"{self}/{name}/{version}.{suffix}"

    def unfinished(self) -> list[str]:
        """Return the claims of what is being put there, or was left half put: a version and a random name each."""
        return sorted(self._files.names(CLAIMS))

    def _claim(self) -> tuple[int, str]:
        """Return a version that no other build has or gets, and the file that says so until the release is there.

        Who claims a number looks only then who else has it: of two at once at least one sees the other, and goes on.
        """
        version = 1 + max(self._versions(), default=0)
        while True:
            claim = f"{version}-{uuid.uuid4().hex}"
            self._files.write(b"\n", CLAIMS, claim)
            others = {one for one in self._files.names(CLAIMS) if one.startswith(f"{version}-")} - {claim}
            if not others and version not in self._versions():  # in this order: a claim goes once the release is there
                return version, claim
            self._files.remove(CLAIMS, claim)
            version += 1

    def _versions(self) -> set[int]:
        names = [name for name in self._files.names() if not name.startswith(".")]
        return {int(one) for name in names for one in self._files.names(name) if one.isascii() and one.isdigit()}


Place = Folder | Remote


def of(settings: Settings, patience: float | None = None) -> Place:
    """Return where the releases of an instance lie; raise UsageError where a library for that is missing."""
    if isinstance(settings.releases, Path):
        return Folder(settings.releases)
    return Remote(settings.releases, settings.instance / FETCHED, patience)


def placed(place: Path | Place) -> Place:
    """Return the place that a path stands for, too."""
    return Folder(place) if isinstance(place, Path) else place


def versions(home: Path) -> list[int]:
    """Return the versions that lie in the folder of a name, in order; a hidden folder is no name."""
    if not home.is_dir() or home.name.startswith("."):
        return []
    return sorted(int(p.name) for p in home.iterdir() if p.name.isascii() and p.name.isdigit() and p.is_dir())
