"""Summary of a run over many images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class DetectionRun:
    """Summary of a run over many images.

    Attributes:
        output: Folder of the results.
        images: Number of images with results.
        nuclei: Number of nuclei found in them.
        resumed: Number of those images that an earlier run had finished.
        seconds: Time from the first image to the last file.
        failures: One message for each input that could not be used, naming it.
    """

    output: Path
    images: int = 0
    nuclei: int = 0
    resumed: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{_count(self.images, 'image', 'images')}, {_count(self.nuclei, 'nucleus', 'nuclei')}"
        resumed = f" ({self.resumed} done before)" if self.resumed else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{counts}{resumed}, {self.seconds:.1f} s{failed}: {self.output}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
