"""The table of measured beside published figures."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest

from nucleus.experiments.publications.table import COLUMNS, CSV_FILE, MARKDOWN_FILE, Row, append_rows, read_table

ROW = Row(
    date="2024-01-01T00:00:00Z",
    experiment="some",
    metric="mAP",
    part="",
    dataset="images",
    published=0.42,
    measured=0.5,
    images=3,
    measured_on="val",
    weights="trained",
    settings="",
    quick=False,
    backend="jax",
    seconds=1.5,
    citation="Nobody. A title, with a comma | and a bar. 2024.",
)


def test_runs_add_up_in_both_files(tmp_path):
    append_rows(tmp_path, [ROW])
    append_rows(tmp_path, [replace(ROW, published=None, measured=0.1234567, quick=True), replace(ROW, measured=None)])
    table = pd.read_csv(tmp_path / CSV_FILE)
    assert list(table.columns) == COLUMNS
    assert table["measured"].tolist()[:2] == [0.5, 0.123457] and table["measured"].isna().tolist() == [
        False,
        False,
        True,
    ]
    assert table["published"].isna().tolist() == [False, True, False]
    assert table["quick"].tolist() == ["no", "yes", "no"] and table["citation"].unique().tolist() == [ROW.citation]
    lines = (tmp_path / MARKDOWN_FILE).read_text().splitlines()
    assert [line.count(" | ") for line in lines[:5]] == [len(COLUMNS) - 2] * 5
    assert lines[-1] == f"- some: {ROW.citation}" and "| 0.42 | 0.5 | 3 |" in lines[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [CSV_FILE, MARKDOWN_FILE]


def test_a_table_that_was_begun_without_data_sets_goes_on(tmp_path):
    append_rows(tmp_path, [ROW])
    old = pd.read_csv(tmp_path / CSV_FILE, dtype=str).drop(columns="dataset")
    old.to_csv(tmp_path / CSV_FILE, index=False)
    append_rows(tmp_path, [ROW])
    table = pd.read_csv(tmp_path / CSV_FILE, keep_default_na=False)
    assert list(table.columns) == COLUMNS and table["dataset"].tolist() == ["", "images"]
    assert table["metric"].tolist() == ["mAP", "mAP"] and table["citation"].unique().tolist() == [ROW.citation]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", '"never closed'])
def test_another_file_is_left_alone(tmp_path, content):
    (tmp_path / CSV_FILE).write_text(content)
    for use in (lambda: read_table(tmp_path), lambda: append_rows(tmp_path, [ROW])):
        with pytest.raises(ValueError, match=CSV_FILE):
            use()
    assert (tmp_path / CSV_FILE).read_text() == content


def test_runs_that_end_together_lose_no_row(tmp_path):
    rows = [replace(ROW, experiment=f"run {number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda row: append_rows(tmp_path / "new", [row]), rows))
    assert sorted(read_table(tmp_path / "new")["experiment"]) == [row.experiment for row in rows]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [CSV_FILE, MARKDOWN_FILE]
