"""The page of the evidence: all that was measured, whose it is, and every file to take along."""

import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from reviewapp.evidence.pack import Pack, write
from reviewapp.evidence.tables import Column, Table, key
from reviewapp.parts import Parts
from reviewapp.release import Release

from .page import JSON, Page

EVIDENCE = Path(__file__).resolve().parent.parent / "memo" / "evidence"


@pytest.fixture
def folder(tmp_path: Path, parts: Parts) -> Path:
    """A copy of the evidence, of which the app says that it is its own."""
    shutil.copytree(EVIDENCE, tmp_path / "evidence")
    object.__setattr__(parts.settings, "evidence", tmp_path / "evidence")
    return tmp_path / "evidence"


def test_it_shows_every_table_and_picture_with_its_file(page: FlaskClient, folder: Path) -> None:
    shown, pack = Page(page.get("/evidence").text), Pack.read(folder)
    for table in pack.tables.values():
        assert table.title in shown.text
        assert shown.all("a", href=f"/evidence/{table.name}.csv")
    assert [a["src"] for a in shown.all("img")] == [f"/evidence/{p['name']}.png" for p in pack.manifest["pictures"]]
    cost = pack.table("comparison").row(part="test", option="model")
    assert pack.table("comparison").column("cost_per_100").shown(cost["cost_per_100"]) in shown.text
    for name in pack.files:
        with page.get(f"/evidence/{name}") as got:
            assert (got.status_code, got.data) == (200, (folder / name).read_bytes())
            assert got.headers["X-Content-Type-Options"] == "nosniff"


def test_the_soak_is_shown_with_its_files_once_it_was_measured(page: FlaskClient, folder: Path) -> None:
    shutil.rmtree(folder / "soak", ignore_errors=True)
    assert "make soak" not in page.get("/evidence").text
    assert page.get("/evidence/soak/reliability.csv").status_code == 404
    columns = [key("what", "What"), Column("measured", "Measured")]
    table = Table("reliability", "What holds", "In short.", columns, [{"what": "lost", "measured": "0 of 7"}])
    write(folder / "soak", {"date": "2026-01-31"}, [table], {}, ())
    shown = Page(page.get("/evidence").text)
    assert "0 of 7" in shown.text
    assert shown.all("a", href="/evidence/soak/reliability.csv")
    with page.get("/evidence/soak/reliability.csv") as got:
        assert got.data == b"what,measured\nlost,0 of 7\n"
    assert page.get("/evidence", headers=JSON).json["tables"]["reliability"] == list(table.rows)
    assert page.get("/evidence/soak/..%2fpairs.csv").status_code == 404
    (folder / "soak" / "reliability.csv").write_text("what,measured\nlost,0 of 9\n")
    assert "soak/reliability.csv: it was changed after it was measured" in Page(page.get("/evidence").text).text


def test_programs_get_the_figures_themselves(page: FlaskClient, folder: Path) -> None:
    twin = page.get("/evidence", headers=JSON).json
    assert twin["tables"]["pairs"] == [dict(row) for row in Pack.read(folder).table("pairs").rows]
    assert twin["manifest"]["seed"] == Pack.read(folder).manifest["seed"]


def test_figures_of_another_release_say_so(page: FlaskClient, folder: Path, release: Release) -> None:
    pack = Pack.read(folder)
    facts = {name: pack.manifest[name] for name in ("quick", "machine", "data", "source", "seed")}
    write(
        folder, {**facts, "release": {"name": "triage", "digest": "sha256:other"}}, list(pack.tables.values()), {}, ()
    )
    (folder / "pairs.csv").write_text((folder / "pairs.csv").read_text().replace("2000", "2001"))
    text = Page(page.get("/evidence").text).text
    assert f"of another build than the live one, {release.id}" in text
    assert "pairs.csv: it was changed after it was measured" in text


def test_a_manifest_that_was_changed_is_not_shown(page: FlaskClient, folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"quick": false', '"quick": true'))
    shown = Page(page.get("/evidence").text)
    assert "manifest.json: it was changed after it was written" in shown.text
    assert shown.all("table") == []
    assert page.get("/evidence/comparison.csv").status_code == 404


def test_without_evidence_the_page_says_how_to_get_it(page: FlaskClient, folder: Path) -> None:
    shutil.rmtree(folder)
    shown = page.get("/evidence")
    assert (shown.status_code, "make evidence" in Page(shown.text).text) == (200, True)
    assert page.get("/evidence", headers=JSON).json["tables"] == {}
    assert page.get("/evidence/comparison.csv").status_code == 404


@pytest.mark.parametrize("name", ["nothing.csv", "..%2fmemo.md", "%2e%2e", "bench", "manifest.json%00"])
def test_nothing_but_the_files_of_the_pack_can_be_had(page: FlaskClient, folder: Path, name: str) -> None:
    (folder / "nothing.csv").write_text("no run made this")
    (folder / "bench").mkdir(exist_ok=True)
    assert page.get(f"/evidence/{name}").status_code == 404
