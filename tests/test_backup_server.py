"""A backup of a ledger in PostgreSQL is the same archive as of a file, and goes back into either."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reviewapp import backup, cli, copying, restoring
from reviewapp.cli import main
from reviewapp.config import Settings
from reviewapp.errors import ReviewappError, UsageError
from reviewapp.intact import verify
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call
from reviewapp.release import Release
from reviewapp.store import Store

from .conftest import Clock
from .postgres import Postgres
from .test_copying import contents
from .test_ledger import prediction
from .test_store import older_store


@pytest.fixture
def make_url(postgres: Postgres) -> Iterator[Callable[[str], str]]:
    """Return a function that makes a database, a copy of another one."""
    made: list[str] = []

    def make(template: str) -> str:
        made.append(postgres.database(template))
        return made[-1]

    yield make
    for url in made:
        postgres.drop(url)


@pytest.fixture
def settings(
    tmp_path: Path, release: Release, releases_root: Path, make_url: Callable[[str], str],
    postgres_templates: dict[str, str],
) -> Settings:  # fmt: skip
    """Those of an instance whose ledger lies in PostgreSQL, with a release that is live."""
    folder = tmp_path / "here"
    shutil.copytree(releases_root / str(release.id), folder / "releases" / str(release.id))
    return Settings(instance=folder, releases=folder / "releases", database_url=make_url(postgres_templates["live"]))


@pytest.fixture
def file(settings: Settings, clock: Clock, tmp_path: Path) -> Path:
    with closing(Store(settings.database_url)) as store:
        Ledger(store, clock).add_predictions([prediction(clock, decision="review", reasons=["unsure"])], Call())
        made = backup.make(settings, store, tmp_path / "kept.tar")
    assert (made.rows["predictions"], made.live, made.wrong) == (1, "triage/1", [])
    return tmp_path / "kept.tar"


def other(tmp_path: Path, url: str) -> Settings:
    folder = tmp_path / "there"
    return Settings(instance=folder, releases=folder / "releases", database_url=url)


def run(settings: Settings, *words: object) -> Result:
    environment = {"REVIEWAPP_INSTANCE": str(settings.instance), "REVIEWAPP_DATABASE_URL": settings.database_url}
    return CliRunner().invoke(main, [str(word) for word in words], env=environment)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_was_kept_in_postgresql_goes_back_into_either(
    settings: Settings, file: Path, tmp_path: Path, make_url: Callable[[str], str], release: Release, kind: str
) -> None:
    there = other(
        tmp_path, make_url("template0") if kind == "postgresql" else f"sqlite:///{tmp_path}/there/kept.sqlite3"
    )
    with closing(Store(settings.database_url)) as old, closing(Store(there.database_url)) as new:
        found, aside = restoring.restore(file, there, new, replace=False)
        assert (found.rows["predictions"], aside) == (1, [])
        assert contents(new) == contents(old)
        assert verify(new).newest == verify(old).newest
    assert (there.releases / str(release.id) / "contract.json").is_file()
    assert not list(there.instance.glob(".*"))


def test_a_database_with_rows_in_it_is_never_replaced(settings: Settings, file: Path, tmp_path: Path) -> None:
    there = other(tmp_path, settings.database_url)
    with closing(Store(settings.database_url)) as store:
        before = contents(store)
        for replace in (False, True):
            with pytest.raises(UsageError, match=r"holds rows already \(predictions\)|holds rows already \(\w+\)"):
                restoring.restore(file, there, store, replace=replace)
        assert contents(store) == before
    assert not there.instance.exists()


def test_what_cannot_be_put_into_postgresql_leaves_the_releases_as_they_were(
    file: Path, tmp_path: Path, make_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = other(tmp_path, make_url("template0"))

    def fail(connection: object) -> None:
        raise ReviewappError("The server is gone.")

    monkeypatch.setattr(copying, "_finish_server", fail)
    with closing(Store(there.database_url)) as store:
        with pytest.raises(ReviewappError, match="gone"):
            restoring.restore(file, there, store, replace=False)
        assert {name for name, rows in contents(store).items() if rows} == set()
        assert not list(there.releases.rglob("contract.json"))
        monkeypatch.undo()
        restoring.restore(file, there, store, replace=False)
        assert len(contents(store)["predictions"]) == 1


def test_an_older_backup_of_a_file_is_brought_up_to_date_on_its_way(
    tmp_path: Path, make_url: Callable[[str], str]
) -> None:
    old = Settings(tmp_path / "old", f"sqlite:///{tmp_path}/old/reviewapp.sqlite3", tmp_path / "old" / "releases")
    old.instance.mkdir()
    older_store(old.database_url, "0005").close()
    backup.make(old, Store(old.database_url), tmp_path / "old.tar")
    there = other(tmp_path, make_url("template0"))
    with closing(Store(there.database_url)) as store:
        restoring.restore(tmp_path / "old.tar", there, store, replace=False)
        verify(store)


def test_the_commands_do_both_and_want_the_service_stopped_to_restore(
    settings: Settings, file: Path, tmp_path: Path, make_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.operating, "end_tidily", lambda: None)
    written = run(settings, "backup", tmp_path / "by-command.tar")
    assert (written.exit_code, written.stderr) == (0, "")
    assert "1 predictions" in written.stdout
    there = other(tmp_path, make_url("template0"))
    restored = run(there, "restore", tmp_path / "by-command.tar")
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert restored.stdout.startswith("Restored what was kept at ")
    empty = other(tmp_path / "second", make_url("template0"))
    monkeypatch.setattr(copying, "_CLOSING_SECONDS", 0)
    with closing(Store(empty.database_url)) as service:
        service.check_writable("a service")
        refused = run(empty, "restore", file)
    assert (refused.exit_code, "is in use: 1 connection of reviewapp" in refused.stderr) == (2, True)
    none = run(other(tmp_path, make_url("template0")), "backup", tmp_path / "none.tar")
    assert (none.exit_code, "There is no ledger in postgresql+psycopg://tests@" in none.stderr) == (2, True)
    assert not (tmp_path / "none.tar").exists()
