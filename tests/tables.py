"""Small tables with the quirks of published ones, made with a seed: what `reviewapp build` is tried on."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

Rows = list[list[str]]

# Names that break naive code, one of each kind of field.
ODD_NAMES = ("a b", "x.y", "p%", "t°", "class", "id", "", "a/b~c", "Meta", "<i>n</i>", '"q"', "日付", "c[0]")
ODD_TARGET = 'the "target" <y>'
ODD_LABELS = ("<=50K", '>50K & "x"', "it's <b>")


def write(path: Path, header: Sequence[str], rows: Rows, delimiter: str = ",", **how: str) -> Path:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=how.get("end", "\r\n"))
    writer.writerow(header)
    writer.writerows(rows)
    path.write_bytes(out.getvalue().encode(how.get("encoding", "utf-8")))
    return path


def plain(rows: int = 300, seed: int = 0) -> Rows:
    """a: number, b: category, y: yes or no."""
    rng = random.Random(seed)
    made = []
    for _ in range(rows):
        a, b = rng.gauss(0, 1), rng.choice(["x", "y", "z"])
        made.append([f"{a:.3f}", b, "yes" if a + (b == "x") + rng.gauss(0, 0.5) > 0.5 else "no"])
    return made


def odd(rows: int = 400, seed: int = 0) -> Rows:
    """Every kind of field under odd names, missing cells in half of them, labels that look like HTML."""
    rng = random.Random(seed)
    made = []

    def or_empty(text: str, share: float = 0.1) -> str:
        return "" if rng.random() < share else text

    for _ in range(rows):
        number, flag = rng.gauss(0, 1), rng.random() < 0.5
        category = rng.choice(["<b>", "a&b", '"q"', "it's"])
        text = " ".join(
            rng.choice(["pay", "bug", "help", "now", "héllo", "=1+1", "<script>x</script>"]) for _ in "12345"
        )
        score = number + (category == "<b>") + ("pay" in text) + rng.gauss(0, 0.4)
        made.append(
            [
                f"{number:.4f}",
                or_empty(f"{rng.gauss(0, 1):.4f}"),
                category,
                or_empty(rng.choice(["NA", "Na", "N", "A"])),
                str(rng.randint(0, 50)),
                or_empty(str(rng.randint(0, 9))),
                text,
                or_empty(text[::-1]),
                "true" if flag else "false",
                or_empty("True" if rng.random() < 0.5 else "False"),
                f"k{rng.randint(0, 60)}",
                or_empty(f"{rng.randint(1, 28):02}.{rng.randint(1, 12):02}.20{rng.randint(10, 24)}"),
                rng.choice(["?", "", *[f"{rng.random():.2f}"] * 8]),
                ODD_LABELS[0 if score < 0.5 else 1 if score < 1.5 else 2],
            ]
        )
    return made


def values(rows: int = 400, seed: int = 0) -> Rows:
    """a, b: numbers, place: category, price: what is to be predicted, its noise growing with it."""
    rng = random.Random(seed)
    made = []
    for _ in range(rows):
        a, b, place = rng.uniform(0, 10), rng.gauss(0, 1), rng.choice(["north", "south"])
        price = 1000 * (2 + a + 3 * (place == "north")) * (1 + 0.05 * rng.gauss(0, 1))
        made.append([f"{a:.3f}", "" if rng.random() < 0.1 else f"{b:.3f}", place, f"{price:.2f}"])
    return made


PLAIN: tuple[Sequence[str], Callable[..., Rows]] = (("a", "b", "y"), plain)
ODD: tuple[Sequence[str], Callable[..., Rows]] = ((*ODD_NAMES, ODD_TARGET), odd)
VALUES: tuple[Sequence[str], Callable[..., Rows]] = (("a", "b", "place", "price"), values)


def written(
    folder: Path, table: tuple[Sequence[str], Callable[..., Rows]], name: str = "table.csv", **how: int
) -> Path:
    header, make = table
    return write(folder / name, header, make(**how))
