"""Images that other processes predict: what they are sent, and the files that come back from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.decoding.base import pixel_limit
from nucleus.models.base import NucleusModel
from nucleus.models.portable import PortableModel
from nucleus.prediction.chunks import Item, Predict, predict_together
from nucleus.prediction.cluster import Cluster
from nucleus.prediction.manifest import program
from nucleus.prediction.worker import Delivery, Job, Reading
from nucleus.prediction.writers import WRITERS, Record, Writer, open_writers


@dataclass(frozen=True)
class Remote:
    """Prediction of images in other processes.

    Attributes:
        cluster: The cluster, entered.
        start: Function that can be sent, from the data set of a chunk's images to what predicts them.
        before: Function that is given each image before it is sent, here.
        after: Function that is given each image with its nuclei when it comes back, here.
    """

    cluster: Cluster
    start: Callable[[NucleusDataset], Predict]
    before: Callable[[Item], None] = lambda item: None
    after: Callable[[Item], None] = lambda item: None

    def chunks(
        self,
        items: Iterable[Item],
        dataset: NucleusDataset,
        make: Callable[[NucleusDataset, Item], Record] | None = None,
        formats: Sequence[str] = (),
    ) -> Iterator[list[Item]]:
        """Yields the images in chunks, with nuclei or an error, in their order.

        Args:
            items: The images.
            dataset: Prepared data set of the images.
            make: Function that can be sent, from a data set and an image with a prediction to its record, which is
                then `made`; None for predictions alone.
            formats: Formats of the results, names in `nucleus.prediction.writers.WRITERS`.

        Raises:
            ClusterError: The cluster is lost.
            ValueError: A worker has other versions than this process, or cannot build the model.
        """
        reading = Reading(
            folder=Path.cwd(),
            preprocessing=dataset.preprocessing,
            fit=dataset.fit,
            planes=dataset.planes,
            pixel_size=dataset.pixel_size,
            pixel_limit=pixel_limit(),
        )
        job = Job(self.start, reading, program(), make, tuple(filter(_is_by_image, dict.fromkeys(formats))))
        for chunk in self.cluster.run(job, self._prepared(items), dataset):
            for item in chunk:
                if item.error is None:
                    self.after(item)
            yield chunk

    def _prepared(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self.before(item)
            yield item


def remote_model(cluster: Cluster | None, model: NucleusModel) -> Remote | None:
    """Returns the prediction by a model on a cluster; None without a cluster.

    Args:
        cluster: The cluster, entered.
        model: The model.

    Raises:
        ValueError: The model cannot be sent.
    """
    return None if cluster is None else Remote(cluster, Together(PortableModel(model).pack()))


@dataclass(frozen=True)
class Together:
    """A function that can be sent and returns `predict_together` of a model.

    Attributes:
        model: The model.
    """

    model: PortableModel

    def __call__(self, dataset: NucleusDataset) -> Predict:
        return predict_together(self.model.get(), dataset.pixel_size_of)


class Deliveries(Writer):
    """Files that workers made, put where their writers would have written them."""

    summary = "files that workers made"

    def add(self, record: Record) -> None:
        """Writes the files of one image; see `Writer.add`.

        Args:
            record: A `Delivery`.
        """
        assert isinstance(record, Delivery)
        for name, content in (record.files or {}).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def delivery_writers(folder: Path, formats: Sequence[str]) -> list[Writer]:
    """Returns the writers of a run whose files of single images come from workers.

    Args:
        folder: Folder to write into.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
    """
    open_writers(folder, formats)
    return [Deliveries(folder), *open_writers(folder, [name for name in formats if not _is_by_image(name)])]


def _is_by_image(name: str) -> bool:
    return name in WRITERS and WRITERS[name].by_image
