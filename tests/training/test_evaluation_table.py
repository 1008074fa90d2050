"""Tables say what was measured, and what is better than the warp."""

from __future__ import annotations

import csv
import io
import math

import pytest

from training.evaluation.table import Row, Table, means, to_csv, to_markdown, verdicts, write_table


@pytest.fixture
def table() -> Table:
    def rows(pair: str, still: float, warp: float, network: float, flicker: float) -> list[Row]:
        values = {"still": (still, math.nan), "warp": (warp, 4.0), "network, 1 step": (network, flicker)}
        return [Row(pair, name, {"psnr_head": p, "flicker": f}) for name, (p, f) in values.items()]

    return Table(
        (*rows("a", 16.0, 21.0, 22.0, 3.0), *rows("b", 18.0, 23.0, 24.5, 6.0)), ("LPIPS not computed",)
    )


def test_means_are_over_the_pairs_that_have_a_number(table):
    assert table.mean("warp", "psnr_head") == 22 and table.mean("network, 1 step", "flicker") == 4.5
    assert math.isnan(table.mean("still", "flicker"))
    assert table.columns() == ["psnr_head", "flicker"] and table.methods == (
        "still",
        "warp",
        "network, 1 step",
    )


def test_differences_to_the_warp_are_bold_where_they_are_better(table):
    still, warp, network = means(table).splitlines()[2:]
    assert still == "| still | 17.00 (-5.00) | - |"
    assert warp == "| warp | 22.00 | 4.00 |"
    assert network == "| network, 1 step | **23.25 (+1.25)** | 4.50 (+0.50) |"  # more flicker is worse


def test_a_verdict_says_what_is_better_and_what_is_worse(table):
    assert verdicts(table) == [
        "- **network, 1 step**: better than the warp in 1 of 2 measures (head PSNR); worse in flicker"
    ]
    rows = [
        Row("a", name, {"psnr_head": value}) for name, value in (("warp", 20.0), ("network, 1 step", 20.004))
    ]
    assert verdicts(Table(tuple(rows))) == ["- **network, 1 step**: better than the warp in 0 of 1 measures"]


def test_programs_read_the_same_numbers(table):
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == 6
    assert rows[2] == {"pair": "a", "method": "network, 1 step", "psnr_head": "22", "flicker": "3"}
    assert rows[0]["flicker"] == ""


def test_files_hold_every_pair_and_the_notes(table, tmp_path):
    write_table(tmp_path / "new", table)
    text = (tmp_path / "new" / "table.md").read_text(encoding="utf-8")
    assert text == to_markdown(table) and "- LPIPS not computed" in text
    assert "| b | network, 1 step | 24.50 | 6.00 |" in text
    assert (tmp_path / "new" / "table.csv").read_text(encoding="utf-8") == to_csv(table)
