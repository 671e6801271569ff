"""Images with the outlines of their nuclei, `overlays/<id>.png`."""

from __future__ import annotations

from nucleus.images.outlines import draw_outlines
from nucleus.images.writing import write_rgb
from nucleus.prediction.writers.base import Record, Writer


class Overlays(Writer):
    """PNG pictures of the size of the image."""

    def add(self, record: Record) -> None:
        """Draws and writes one picture; see `Writer.add`."""
        write_rgb(self.folder / "overlays" / f"{record.id}.png", draw_outlines(record.image, record.labels))
