"""A backup holds all that was acknowledged, and is put back whole or not at all."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pysqlite3 import dbapi2

from reviewapp import backup, cli, ledgerfile, restoring, schema
from reviewapp.backup import LEDGER, MANIFEST
from reviewapp.cli import main
from reviewapp.config import Settings
from reviewapp.errors import ReviewappError, StoreBusy, StoreError, StoreFull, UsageError
from reviewapp.parts import Parts
from reviewapp.release import Release
from reviewapp.store import Store
from reviewapp.trust import FILE as TRUSTED

from .test_store import older_store


class Instance:
    """An instance folder that the command works on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ledger = folder, folder / LEDGER
        self.settings = Settings(instance=folder, releases=folder / "releases", database_url=f"sqlite:///{self.ledger}")
        self.store = Store(self.settings.database_url)

    def run(self, *words: Any) -> Result:
        environment = {"REVIEWAPP_INSTANCE": str(self.folder), "REVIEWAPP_RELEASES": "", "REVIEWAPP_DATABASE_URL": ""}
        return CliRunner().invoke(main, [str(word) for word in words], env=environment)

    def restore(self, file: Path, *, replace: bool = False) -> list[Path]:
        return restoring.restore(file, self.settings, self.store, replace=replace)[1]

    def ids(self) -> list[str]:
        with dbapi2.connect(str(self.ledger)) as connection:
            found = [one for (one,) in connection.execute("SELECT id FROM predictions ORDER BY seq")]
        connection.close()
        return found

    def write(self, sql: str) -> None:
        connection = dbapi2.connect(str(self.ledger), isolation_level=None)
        connection.execute(sql)
        connection.close()

    def contents(self) -> dict[str, bytes]:
        """Return all its files, but for locks and what is put aside."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        kept = {str(path.relative_to(self.folder)): path.read_bytes() for path in files}
        return {name: content for name, content in kept.items() if "lock" not in name and ".before-" not in name}


@pytest.fixture(autouse=True)
def _signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.operating, "end_tidily", lambda: None)  # what SIGTERM does to the process of the tests


@pytest.fixture
def instance(tmp_path: Path, live_database: Path, release: Release, releases_root: Path) -> Instance:
    made = Instance(tmp_path / "here")
    shutil.copytree(releases_root / str(release.id), made.settings.releases / str(release.id))
    shutil.copy(live_database, made.ledger)
    made.ledger.chmod(0o600)
    return made


@pytest.fixture
def other(tmp_path: Path) -> Instance:
    return Instance(tmp_path / "there")


@pytest.fixture
def file(instance: Instance, tmp_path: Path) -> Path:
    backup.make(instance.settings, instance.store, tmp_path / "kept.tar")
    return tmp_path / "kept.tar"


def rewritten(file: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """Write another archive, of what `change` makes of the files of this one."""
    with tarfile.open(file) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    change(files)
    path = file.with_name("other.tar")
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            (file.parent / "piece").write_bytes(content)
            tar.add(file.parent / "piece", name)
    return path


def listed(change: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    def rewrite(files: dict[str, bytes]) -> None:
        document = json.loads(files[MANIFEST])
        change(document)
        files[MANIFEST] = json.dumps(document).encode()

    return rewrite


def test_what_was_acknowledged_before_is_in_a_backup_that_is_made_in_use_and_verify_accepts_its_releases(
    api: Callable[..., Any], example: dict[str, Any], parts: Parts, release: Release, tmp_path: Path, other: Instance
) -> None:
    made = [api("post", "/predictions", json={"input": example}).json["id"] for _ in range(3)]
    with parts.store.writing() as connection:  # a writer does not keep it waiting
        connection.exec_driver_sql("DELETE FROM probe")
        kept = backup.make(parts.settings, parts.store, tmp_path / "kept.tar")
    assert kept.rows["predictions"] == 3
    assert kept.live == str(release.id)
    assert (tmp_path / "kept.tar").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == []
    done = other.run("restore", tmp_path / "kept.tar")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "3 predictions, 0 verdicts" in done.stdout
    assert other.ids() == made
    assert other.ledger.stat().st_mode & 0o777 == 0o600
    accepted = other.run("verify", release.id.version)
    assert (accepted.exit_code, release.id.digest in accepted.stdout) == (0, True)
    assert other.run("replay", made[0]).exit_code == 0


def test_the_command_says_what_it_wrote_and_replaces_nothing(instance: Instance, tmp_path: Path) -> None:
    made = instance.run("backup", tmp_path / "kept.tar")
    assert made.exit_code == 0
    assert "It was read again and is whole." in made.stdout
    before = (tmp_path / "kept.tar").read_bytes()
    again = instance.run("backup", tmp_path / "kept.tar")
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert (tmp_path / "kept.tar").read_bytes() == before
    nowhere = instance.run("backup", tmp_path / "no" / "kept.tar")
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (2, 1)


def test_what_the_operator_wrote_is_kept_too(instance: Instance, other: Instance, tmp_path: Path) -> None:
    (instance.folder / TRUSTED).write_text("[]")
    (instance.folder / "config.py").write_text("THREADS = 3\n")
    backup.make(instance.settings, instance.store, tmp_path / "kept.tar")
    assert other.restore(tmp_path / "kept.tar") == []
    assert other.contents() == instance.contents() | {LEDGER: other.contents()[LEDGER]}


def test_without_a_ledger_there_is_nothing_to_back_up(other: Instance, tmp_path: Path) -> None:
    refused = other.run("backup", tmp_path / "kept.tar")
    assert (refused.exit_code, refused.stderr) == (
        2, "reviewapp: There is no ledger yet (REVIEWAPP_DATABASE_URL).\n",
    )  # fmt: skip
    other.folder.mkdir(exist_ok=True)
    other.write("CREATE TABLE foreign_to_us (x)")
    with pytest.raises(StoreError, match="did not make"):
        backup.make(other.settings, other.store, tmp_path / "kept.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_damaged_ledger_makes_no_backup(instance: Instance, tmp_path: Path) -> None:
    whole = instance.ledger.read_bytes()
    instance.ledger.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreBusy, match="damaged"):
        backup.make(instance.settings, instance.store, tmp_path / "kept.tar")
    instance.ledger.write_bytes(whole)
    instance.write("PRAGMA writable_schema=ON; ")
    instance.write("INSERT INTO verdicts VALUES (1, 99, 'agree', NULL, NULL, '[]', NULL, 'ann', 'x', 0, NULL)")
    with pytest.raises(StoreBusy, match="names a row that is not there"):
        backup.make(instance.settings, instance.store, tmp_path / "kept.tar")
    assert not (tmp_path / "kept.tar").exists()


def test_a_damaged_release_is_kept_as_it_is_and_said(instance: Instance, other: Instance, tmp_path: Path) -> None:
    [folder] = instance.settings.releases.glob("*/*")
    (folder / "policy.json").write_text("{}")
    (folder / "link").symlink_to("/etc/passwd")
    made = instance.run("backup", tmp_path / "kept.tar")
    assert made.exit_code == 1
    assert "Damaged when the backup was made: release triage/" in made.stderr
    back = other.run("restore", tmp_path / "kept.tar")
    assert (back.exit_code, "Restored" in back.stdout, "Damaged" in back.stderr) == (1, True, True)
    assert (
        other.settings.releases / folder.relative_to(instance.settings.releases) / "policy.json"
    ).read_text() == "{}"
    shutil.rmtree(folder)
    assert instance.run("backup", tmp_path / "without.tar").exit_code == 1


@pytest.mark.parametrize("left", [100_000, 400_000])
def test_without_space_nothing_is_left_behind(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, left))  # type: ignore[attr-defined]
    refused = instance.run("backup", tmp_path / "kept.tar")
    assert (refused.exit_code, refused.stderr.count("\n"), "bytes left" in refused.stderr) == (1, 1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from reviewapp.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize("size", [100_000, 300_000])  # too small for the copy of the ledger; for the archive
def test_a_disk_that_is_full_meanwhile_is_one_sentence(instance: Instance, tmp_path: Path, size: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), "backup", str(tmp_path / "kept.tar")],
        env={**os.environ, "REVIEWAPP_INSTANCE": str(instance.folder)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_backup_that_was_not_written_as_meant_is_not_kept(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "unpacked", lambda file: None)
    with pytest.raises(StoreBusy, match="nothing is kept"):
        backup.make(instance.settings, instance.store, tmp_path / "kept.tar")
    assert not (tmp_path / "kept.tar").exists()


def test_a_backup_of_an_older_schema_is_brought_up_to_date_when_it_is_opened(
    instance: Instance, other: Instance, tmp_path: Path
) -> None:
    instance.ledger.unlink()
    older_store(instance.settings.database_url, "0001").close()
    made = instance.run("backup", tmp_path / "old.tar")
    assert (made.exit_code, "schema 0001" in made.stdout) == (0, True)
    other.restore(tmp_path / "old.tar")
    store = Store(other.settings.database_url)
    with store.reading():
        assert ledgerfile.look(other.ledger).state == ledgerfile.CURRENT
    store.close()


# ---- putting one back -------------------------------------------------------------------------------------------


def test_where_a_service_runs_or_a_ledger_is_nothing_is_restored(
    instance: Instance, other: Instance, file: Path
) -> None:
    refused = instance.run("restore", file)
    assert (refused.exit_code, "There is a ledger already" in refused.stderr) == (2, True)
    script = "import sys; from reviewapp.server import hold_instance; from reviewapp.config import load_settings\n"
    script += "held = hold_instance(load_settings()); print('held', flush=True); sys.stdin.read()"
    environment = {**os.environ, "REVIEWAPP_INSTANCE": str(other.folder)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        refused = other.run("restore", file, "--replace")
        assert (refused.exit_code, "A service runs" in refused.stderr) == (2, True)
        process.kill()
    assert not other.ledger.exists()
    missing = other.run("restore", "no-such.tar")
    assert (missing.exit_code, missing.stderr) == (2, "reviewapp: There is no file no-such.tar.\n")


def test_what_is_replaced_is_put_aside_with_all_that_was_committed(instance: Instance, file: Path) -> None:
    store = Store(instance.settings.database_url)
    store.check_writable("after the backup")
    shutil.copytree(instance.folder, instance.folder.with_name("killed"))  # as a kill leaves it, with a -wal
    store.close()
    killed = Instance(instance.folder.with_name("killed"))
    assert (killed.folder / f"{LEDGER}-wal").stat().st_size
    [aside] = killed.restore(file, replace=True)
    with dbapi2.connect(str(aside)) as connection:
        assert connection.execute("SELECT written_at FROM probe").fetchall() == [("after the backup",)]
    connection.close()
    with dbapi2.connect(str(killed.ledger)) as connection:
        assert connection.execute("SELECT written_at FROM probe").fetchall() == []
    connection.close()
    assert not (killed.folder / f"{LEDGER}-wal").exists()


def test_a_ledger_that_is_damaged_is_put_aside_with_what_lies_beside_it(instance: Instance, file: Path) -> None:
    whole = instance.ledger.read_bytes()
    instance.ledger.write_bytes(b"no database" * 1000)
    (instance.folder / f"{LEDGER}-wal").write_bytes(b"odd")
    assert [path.read_bytes() for path in instance.restore(file, replace=True)] == [b"no database" * 1000, b"odd"]
    assert not (instance.folder / f"{LEDGER}-wal").exists()
    assert ledgerfile.flaws(instance.ledger) == []
    assert len(instance.ledger.read_bytes()) == len(whole)


def test_what_a_lost_ledger_left_beside_it_does_not_reach_the_one_that_is_put_there(
    other: Instance, file: Path
) -> None:
    other.folder.mkdir()
    (other.folder / f"{LEDGER}-wal").write_bytes(b"odd")
    with pytest.raises(UsageError, match="There is a ledger already"):
        other.restore(file)
    assert len(other.restore(file, replace=True)) == 1
    assert [path.name for path in other.folder.glob(f"{LEDGER}*") if ".before-" not in path.name] == [LEDGER]


def test_a_ledger_that_something_uses_is_left_where_it_is(instance: Instance, file: Path) -> None:
    before = instance.contents()
    store = Store(instance.settings.database_url)
    with store.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM probe")
        with pytest.raises(StoreBusy, match="in use"):
            instance.restore(file, replace=True)
    store.close()
    assert instance.contents().keys() == before.keys()


def test_another_release_of_the_same_number_is_put_aside_and_the_same_one_stays(
    instance: Instance, other: Instance, file: Path
) -> None:
    [folder] = instance.settings.releases.glob("*/*")
    there = other.settings.releases / folder.relative_to(instance.settings.releases)
    shutil.copytree(folder, there)
    number = there.stat().st_ino
    other.restore(file)
    assert there.stat().st_ino == number
    (there / "card.md").write_text("another")
    other.ledger.unlink()
    with pytest.raises(UsageError, match="is another one"):
        other.restore(file)
    assert not other.ledger.exists()
    [aside] = other.restore(file, replace=True)
    assert (aside / "card.md").read_text() == "another"
    assert (there / "card.md").read_bytes() == (folder / "card.md").read_bytes()


@pytest.mark.parametrize("replace", [True, False])
def test_a_release_that_was_damaged_then_and_is_whole_here_stays(
    instance: Instance, other: Instance, tmp_path: Path, replace: bool
) -> None:
    [folder] = instance.settings.releases.glob("*/*")
    there = other.settings.releases / folder.relative_to(instance.settings.releases)
    shutil.copytree(folder, there)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "card.md").write_text("damaged")
    assert instance.run("backup", tmp_path / "kept.tar").exit_code == 1
    done = other.run("restore", tmp_path / "kept.tar", *["--replace"] * replace)
    assert (done.exit_code, done.stderr) == (0, "")
    assert {path.name: path.read_bytes() for path in there.iterdir()} == whole
    assert [path.name for path in there.parent.iterdir()] == [there.name]


@pytest.mark.parametrize("change", ["content", "version"])
def test_a_release_that_was_damaged_then_and_is_not_whole_here_either_is_put_aside(
    instance: Instance, other: Instance, tmp_path: Path, change: str
) -> None:
    [folder] = instance.settings.releases.glob("*/*")
    there = other.settings.releases / folder.relative_to(instance.settings.releases)
    shutil.copytree(folder, there)
    if change == "content":
        (there / "card.md").write_text("another")
    else:
        manifest = json.loads((there / "release.json").read_text())
        (there / "release.json").write_text(json.dumps(manifest | {"version": manifest["version"] + 1}))
    (folder / "card.md").write_text("damaged")
    assert instance.run("backup", tmp_path / "kept.tar").exit_code == 1
    done = other.run("restore", tmp_path / "kept.tar", "--replace")
    assert (done.exit_code, "Damaged when the backup was made" in done.stderr) == (1, True)
    assert (there / "card.md").read_text() == "damaged"


def test_a_restore_says_what_it_brings_back_that_was_ended_since(other: Instance, file: Path) -> None:
    said = other.run("restore", file).stdout
    assert "Tokens that were revoked since then are valid again" in said
    assert "What was purged since then is here again; purge it anew.\n" in said


@pytest.mark.parametrize("damaged", [True, False])
def test_whatever_fails_while_it_is_put_in_place_leaves_all_as_it_was(
    instance: Instance, file: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    [folder] = instance.settings.releases.glob("*/*")
    (folder / "card.md").write_text("another")
    if damaged:
        instance.ledger.write_bytes(b"no database" * 1000)
        (instance.folder / f"{LEDGER}-wal").write_bytes(b"odd")
    else:
        instance.write("PRAGMA journal_mode=DELETE")
    before = instance.contents()
    rename = Path.rename

    def failing(self: Path, target: Any) -> Path:
        if Path(target) == instance.ledger:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(StoreFull, match="full"):
        instance.restore(file, replace=True)
    assert instance.contents() == before
    assert not list(instance.folder.rglob("*before-*"))


def test_a_config_that_names_another_ledger_is_to_be_put_there_first(
    instance: Instance, other: Instance, tmp_path: Path
) -> None:
    (instance.folder / "config.py").write_text(f"DATABASE_URL = 'sqlite:///{tmp_path}/elsewhere.sqlite3'\n")
    backup.make(instance.settings, instance.store, tmp_path / "kept.tar")
    with pytest.raises(UsageError, match="unpack it"):
        other.restore(tmp_path / "kept.tar")
    assert other.contents() == {}
    (other.folder / "config.py").write_text("THREADS = 9\n")
    with pytest.raises(UsageError, match="is another one"):
        other.restore(tmp_path / "kept.tar")
    shutil.copy(instance.folder / "config.py", other.folder)
    assert other.restore(tmp_path / "kept.tar") == []


def test_a_newer_schema_is_not_restored(instance: Instance, other: Instance, tmp_path: Path) -> None:
    instance.write("UPDATE alembic_version SET version_num = '9999'")
    backup.make(instance.settings, instance.store, tmp_path / "kept.tar")
    with pytest.raises(StoreError, match="9999, which a newer version"):
        other.restore(tmp_path / "kept.tar")
    assert other.contents() == {}


def _lose_a_file(files: dict[str, bytes]) -> None:
    files.pop(next(name for name in files if name.endswith("card.md")))


def _first(document: Any) -> Any:
    return document["files"][LEDGER]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_lose_a_file, "card.md is missing"),
        (lambda files: files.update({"more": b""}), "holds 'more', which it does not list"),
        (lambda files: files.update({LEDGER: files[LEDGER][:-1] + b"x"}), f"{LEDGER} is not what it was"),
        (lambda files: files.pop(MANIFEST), f"does not begin with {MANIFEST}"),
        (lambda files: files.update({MANIFEST: b"{"}), "does not list"),
        (lambda files: files.update({MANIFEST: b"[" * 100_000}), "does not list"),
        (lambda files: files.update({MANIFEST: b"[]"}), "does not list"),
        (listed(lambda it: it.update(format=2)), "newer version"),
        (listed(lambda it: it.pop("format")), "does not list"),
        (listed(lambda it: it.update(more=1)), "does not list"),
        (listed(lambda it: it.update(files=[])), "does not list"),
        (listed(lambda it: it.update(releases="triage/1")), "does not list"),
        (listed(lambda it: it.update(rows={"predictions": "many"})), "does not list"),
        (listed(lambda it: it["files"].pop(LEDGER)), "does not list"),
        (listed(lambda it: _first(it).update(bytes="1")), "does not list"),
        (listed(lambda it: it["files"].update({"../x": _first(it)})), "does not list"),
        (listed(lambda it: it["files"].update({"releases/../1/x": _first(it)})), "does not list"),
        (listed(lambda it: it["files"].update({"releases/a/1/../x": _first(it)})), "does not list"),
        (listed(lambda it: _first(it).update(sha256="0")), f"{LEDGER} is not what it was"),
    ],
)
def test_a_backup_that_is_not_as_it_was_made_is_refused(
    file: Path, other: Instance, change: Callable[[dict[str, bytes]], Any], said: str
) -> None:
    with pytest.raises(UsageError) as error:
        other.restore(rewritten(file, change))
    assert said in error.value.detail
    assert other.contents() == {}


@pytest.mark.parametrize("damage", ["ledger", "release"])
def test_a_backup_whose_sums_are_right_and_whose_content_is_not_is_refused(
    file: Path, other: Instance, damage: str
) -> None:
    def change(files: dict[str, bytes]) -> None:
        [policy] = [one for one in files if one.endswith("policy.json")]
        name = LEDGER if damage == "ledger" else policy
        middle = len(files[LEDGER]) // 2
        files[name] = (
            files[LEDGER][:middle] + b"\xff" * 8192 + files[LEDGER][middle + 8192 :] if name == LEDGER else b"{}"
        )
        (file.parent / "one").write_bytes(files[name])
        listed(lambda it: it["files"].update({name: backup._facts(file.parent / "one")}))(files)

    with pytest.raises(ReviewappError, match=r"ledger is damaged|release triage/\d+ is not whole|is damaged"):
        other.restore(rewritten(file, change))
    assert other.contents() == {}


def test_links_and_pipes_in_a_backup_are_refused(file: Path, other: Instance) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        path = file.with_name("other.tar")
        with tarfile.open(file) as old, tarfile.open(path, "w") as tar:
            for member in old:
                if member.name == LEDGER:
                    member.type, member.linkname, member.size = kind, "/etc/passwd", 0
                tar.addfile(member, old.extractfile(member) if member.type == tarfile.REGTYPE else None)
        with pytest.raises(UsageError, match="does not list"):
            other.restore(path)


def test_no_damage_to_the_file_is_let_in_or_met_by_another_error(
    file: Path, other: Instance, rng: random.Random
) -> None:
    whole = file.read_bytes()
    broken = file.with_name("broken.tar")
    headers = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    for number in range(120):
        content = bytearray(whole)
        if number % 3:
            at = rng.choice(headers) + rng.randrange(500) if number % 3 == 1 else rng.randrange(len(whole))
            content[at] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(len(whole)) :]
        broken.write_bytes(content)
        try:
            found = backup.unpacked(broken)
        except ReviewappError as error:
            assert error.detail
        else:  # what does not count: owner, time, what lies between and behind the files
            assert found == backup.unpacked(file)
    broken.write_bytes(b"")
    with pytest.raises(UsageError, match="no whole backup"):
        other.restore(broken)
    assert other.contents() == {}


def test_restoring_needs_space(file: Path, other: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, 1000))  # type: ignore[attr-defined]
    refused = other.run("restore", file)
    assert (refused.exit_code, "1,000 bytes left" in refused.stderr) == (1, True)
    assert other.contents() == {}


# ---- the ledger's file --------------------------------------------------------------------------------------------


def test_db_tells_checks_and_brings_up_to_date(other: Instance) -> None:
    assert other.run("db", "status").exit_code == 2
    other.folder.mkdir(exist_ok=True)
    older_store(other.settings.database_url, "0003").close()
    told = other.run("db", "status").stdout
    assert "schema 0003 (older than this version's" in told
    assert "0 predictions" in told
    assert other.run("db", "upgrade").stdout == f"Schema 0003 became {schema.revisions()[-1]}.\n"
    assert "up to date" in other.run("db", "upgrade").stdout
    assert "that of this version" in other.run("db", "status").stdout
    whole = other.run("db", "check")
    assert (whole.exit_code, whole.stdout) == (0, "The ledger's file is whole.\n")
    other.write("INSERT INTO verdicts VALUES (1, 99, 'agree', NULL, NULL, '[]', NULL, 'ann', 'x', 0, NULL)")
    wrong = other.run("db", "check")
    assert (wrong.exit_code, wrong.stdout) == (1, "verdicts names a row that is not there\n")


def test_db_leaves_a_newer_schema_and_a_running_service_alone(instance: Instance) -> None:
    instance.write("UPDATE alembic_version SET version_num = '9999'")
    before = instance.ledger.read_bytes()
    refused = instance.run("db", "upgrade")
    assert (refused.exit_code, "newer version" in refused.stderr) == (2, True)
    assert "made by a newer version" in instance.run("db", "status").stdout
    assert instance.run("serve").exit_code == 2
    assert instance.ledger.read_bytes()[100:] == before[100:]  # its header counts what opened it


def test_what_the_driver_says_of_the_file_is_said_in_our_words(instance: Instance) -> None:
    with pytest.raises(StoreFull, match="not enough space"), ledgerfile.opened(instance.ledger) as connection:
        connection.execute("PRAGMA max_page_count=1")
        connection.execute("INSERT INTO probe VALUES (1, ?)", ("x" * 500_000,))
    unread = pytest.raises(StoreBusy, match=f"{LEDGER} cannot be read: no such table")
    with unread, ledgerfile.opened(instance.ledger) as connection:
        connection.execute("SELECT * FROM absent")


def killed_at(step: int, instance: Instance, file: Path) -> bool:
    """Let a process put a backup in place of what is there, and kill it before a move; return whether it was."""
    child = os.fork()
    if child == 0:
        numbers = count()

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def or_killed(*given: Any, **more: Any) -> Any:
                if next(numbers) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*given, **more)

            return or_killed

        try:
            os.rename, os.link, os.unlink = counted(os.rename), counted(os.link), counted(os.unlink)
            instance.restore(file, replace=True)
            os._exit(0)
        except BaseException:
            os._exit(1)
    ended = os.waitpid(child, 0)[1]
    assert ended in {0, signal.SIGKILL}
    return ended == signal.SIGKILL


def test_whoever_is_killed_while_restoring_leaves_the_old_ledger_or_the_new_one_and_may_go_on(
    instance: Instance, file: Path
) -> None:
    store = Store(instance.settings.database_url)
    store.check_writable("not in the backup")
    [folder] = instance.settings.releases.glob("*/*")
    (folder / "card.md").write_text("another")
    killed = instance.folder.with_name("killed")
    shutil.copytree(instance.folder, killed)  # with a -wal
    store.close()
    for step in count():
        here = Instance(instance.folder.with_name(f"killed{step}"))
        shutil.copytree(killed, here.folder)
        if not killed_at(step, here, file):
            break
        assert ledgerfile.flaws(here.ledger) == []
        probed = written_at(here.ledger)
        asides = [path for path in here.folder.glob("*.before-*") if not path.name.endswith(ledgerfile.BESIDE)]
        assert probed == ["not in the backup"] or ["not in the backup"] in map(written_at, asides)
        here.restore(file, replace=True)
        assert written_at(here.ledger) == []
        assert [path.name for path in here.folder.iterdir() if path.name.startswith(".")] == []
    assert step >= 6


def written_at(ledger: Path) -> list[str]:
    with closing(dbapi2.connect(str(ledger))) as connection:
        return [one for (one,) in connection.execute("SELECT written_at FROM probe")]
