"""Images with the outlines of their nuclei, `overlays/<id>.png`; lines are wider in large images."""

from __future__ import annotations

from nucleus.images.outlines import draw_outlines, line_width
from nucleus.images.writing import write_rgb
from nucleus.prediction.writers.base import Record, Writer


class Overlays(Writer):
    """PNG pictures of the size of the image."""

    summary = "pictures with outlines"
    by_image = True

    def add(self, record: Record) -> None:
        """Draws and writes one picture; see `Writer.add`."""
        drawn = draw_outlines(record.image, record.labels, width=line_width(record.labels))
        write_rgb(self.folder / "overlays" / f"{record.id}.png", drawn)
