"""Both tables in one workbook for Excel, `measurements.xlsx`, with the sheets nuclei and images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from nucleus.prediction.writers.tables import TableWriter
from trainkit.files import atomic_path

if TYPE_CHECKING:
    from openpyxl.worksheet._write_only import WriteOnlyWorksheet

FILE = "measurements.xlsx"
# Rows that a sheet can have, the header included.
SHEET_ROWS = 2**20


class Workbook(TableWriter):
    """An Excel workbook. Numbers are whole, not rounded; nuclei beyond a sheet's last row go on in another one."""

    summary = "both tables in one workbook"
    package = "openpyxl"

    def close(self) -> None:
        """Writes the workbook if there was an image; see `Writer.close`."""
        if not any(self._rows):
            return
        import openpyxl

        book = openpyxl.Workbook(write_only=True)
        for rows in self._rows:
            table = rows.joined()
            for part, first in enumerate(range(0, max(len(table), 1), SHEET_ROWS - 1), start=1):
                sheet = book.create_sheet(rows.table.name if part == 1 else f"{rows.table.name} {part}")
                sheet.freeze_panes = "A2"
                sheet.append(list(table.columns))
                for values in _cells(sheet, table.iloc[first : first + SHEET_ROWS - 1]):
                    sheet.append(values)
        with atomic_path(self.folder / FILE) as temporary:
            book.save(temporary)


def _cells(sheet: WriteOnlyWorksheet, table: pd.DataFrame) -> Iterator[list[Any]]:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    def cell(value: Any) -> Any:
        if isinstance(value, str):
            text = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("_", value))
            # A name that begins with "=" is no formula.
            text.data_type = "s"
            return text
        return None if isinstance(value, float) and not math.isfinite(value) else value

    columns = [table[name].tolist() for name in table.columns]
    for values in zip(*columns, strict=True):
        yield [cell(value) for value in values]
