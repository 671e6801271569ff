"""Batches for `keras.Model.fit` that are the same in every run of one seed, prepared ahead by threads."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol

import keras
import numpy as np

# Value of an image for a key that its information does not have.
UNKNOWN = "unknown"


class Order(Protocol):
    """Endless sequence of items with random access."""

    def __getitem__(self, position: int) -> Any:
        """Returns the item at a position, 0 or more."""


class InOrder:
    """Items in their own order, over and over.

    Args:
        items: Items, at least one.

    Raises:
        ValueError: There are no items.
    """

    def __init__(self, items: Sequence[Any]):
        self._items = _not_empty(items)

    def __getitem__(self, position: int) -> Any:
        return self._items[position % len(self._items)]


class Shuffled:
    """Items in rounds of random order: each comes once before any comes again.

    Args:
        items: Items, at least one.
        seed: Seed of the order, one number from 0 on or several.

    Raises:
        ValueError: There are no items.
    """

    def __init__(self, items: Sequence[Any], seed: int | Sequence[int]):
        self._items = _not_empty(items)
        self._seed = [seed] if isinstance(seed, int) else [*seed]
        self._round = lru_cache(maxsize=2)(self._compute_round)

    def __getitem__(self, position: int) -> Any:
        round_, place = divmod(position, len(self._items))
        return self._items[self._round(round_)[place]]

    def _compute_round(self, round_: int) -> np.ndarray:
        return np.random.default_rng([*self._seed, round_]).permutation(len(self._items))


class Balanced:
    """Items of groups in turn, each group equally often whatever its size.

    The groups come in rounds of random order; within a group the items are `Shuffled`.

    Args:
        groups: Items by group; at least one group, and one item in each.
        seed: Seed of the order, 0 or more.

    Raises:
        ValueError: There are no groups, or a group is empty.
    """

    def __init__(self, groups: Mapping[Hashable, Sequence[Any]], seed: int):
        members = [Shuffled(items, (seed, 1 + number)) for number, items in enumerate(groups.values())]
        self._groups = Shuffled(members, (seed, 0))
        self._count = len(members)

    def __getitem__(self, position: int) -> Any:
        return self._groups[position][position // self._count]


class Weighted:
    """Groups of items in given shares; within a group the items are `Shuffled`.

    The groups come in rounds of `ROUND` places (of one place a group at least), in random order, in which each has the
    share that it is given, to a whole place and at least one.

    Args:
        groups: Items by group; at least one group, and one item in each.
        weights: Relative share of each group, above 0.
        seed: From 0 on.

    Raises:
        ValueError: There are no groups, an empty one, or one without a share.
    """

    ROUND = 1024

    def __init__(self, groups: Mapping[Hashable, Sequence[Any]], weights: Mapping[Hashable, float], seed: int):
        _not_empty(list(groups))
        if any(not weights[key] > 0 for key in groups):
            raise ValueError(f"Every group needs a share above 0. Received: {dict(weights)}")
        self._members = [Shuffled(items, (seed, 1 + number)) for number, items in enumerate(groups.values())]
        self._seed = seed
        wanted = np.array([weights[key] for key in groups], float)
        places = wanted / wanted.sum() * self.ROUND
        self._counts = np.maximum(1, np.rint(places)).astype(int)
        self._round = lru_cache(maxsize=2)(self._compute_round)

    def __getitem__(self, position: int) -> Any:
        round_, place = divmod(position, int(self._counts.sum()))
        groups, ranks = self._round(round_)
        group = groups[place]
        return self._members[group][int(round_ * self._counts[group] + ranks[place])]

    def _compute_round(self, round_: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns each place's group, and how many places before it in the round are of the same group."""
        groups = np.repeat(np.arange(len(self._counts)), self._counts)
        ranks = np.concatenate([np.arange(count) for count in self._counts])
        order = np.random.default_rng([self._seed, 0, round_]).permutation(len(groups))
        # In the order of places, the ranks of a group rise.
        groups = groups[order]
        ordered = np.empty_like(ranks)
        ordered[np.argsort(groups, kind="stable")] = ranks
        return groups, ordered


def group_items(
    items: Sequence[int], info: Sequence[Mapping[str, Any]], *keys: str
) -> dict[tuple[Any, ...], list[int]]:
    """Groups images by what is known of them.

    Args:
        items: Indices of images.
        info: One mapping for each image.
        keys: Keys of the mappings whose values make a group; an image without one is "unknown" in it.

    Returns:
        Values of the keys -> the images of that group, in the order in which they come.

    Examples:
        >>> group_items([0, 1, 2], [{"modality": "h&e"}, {}, {"modality": "h&e"}], "modality")
        {('h&e',): [0, 2], ('unknown',): [1]}
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for item in items:
        groups.setdefault(tuple(info[item].get(key, UNKNOWN) for key in keys), []).append(item)
    return groups


def balanced_by_power(items: Sequence[int], info: Sequence[Mapping[str, Any]], power: float, seed: int) -> Order:
    """Orders images so that each data set and modality is drawn in proportion to its number of images to a power.

    Args:
        items: Indices of images, at least one.
        info: One mapping for each image, with `collection` (its data set) and `modality` where they are known.
        power: 1 draws all images equally often, 0.5 gives small groups more, 0 gives all groups the same.
        seed: Seed of the order, 0 or more.

    Raises:
        ValueError: There are no images.
    """
    if power == 1:
        return Shuffled(items, seed)
    groups = group_items(items, info, "collection", "modality")
    return Weighted(groups, {key: len(members) ** power for key, members in groups.items()}, seed)


class Batches(keras.utils.PyDataset, ABC):
    """Batches prepared by threads while the network computes, and the same in every run of one seed.

    The item of sample i of epoch e, and every random choice in preparing it, depend on `seed`, e and i alone; neither
    on the number of threads nor on whether earlier epochs ran in this process. To resume, set `epoch` to the number of
    finished epochs. Besides the batch that is requested, only the next few of its epoch are held.

    A subclass implements `sample`, which prepares an item, and `collate`, which makes a batch of samples.

    Args:
        order: Order of the items, one for every sample.
        batch_size: Samples of a batch.
        steps: Batches of an epoch.
        seed: Seed of every random choice, 0 or more.
        workers: Number of threads; 0 prepares each batch when it is requested.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(self, order: Order, *, batch_size: int, steps: int, seed: int = 0, workers: int = 0):
        if min(batch_size, steps) < 1 or min(seed, workers) < 0:
            raise ValueError(
                f"Expected batches and steps from 1 on, seed and workers from 0 on. Received: batch_size={batch_size}, "
                f"steps={steps}, seed={seed}, workers={workers}"
            )
        # Keras's own queue keeps what it prepared ahead for the next epoch, so it is left out (workers=1).
        super().__init__(workers=1, use_multiprocessing=False)
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.epoch = 0
        self.failure: Exception | None = None
        self._order = order
        self._ahead = workers + 1 if workers else 0
        self._pool = ThreadPoolExecutor(workers, "batches") if workers else None
        self._pending: dict[tuple[int, int], Future] = {}
        self._lock = threading.Lock()
        self._began = False
        self._finished = False

    @abstractmethod
    def sample(self, item: Any, rng: np.random.Generator) -> Any:
        """Prepares a sample of a batch; called from several threads at once.

        Args:
            item: Item of the order.
            rng: Generator of every random choice.
        """

    @abstractmethod
    def collate(self, samples: Sequence[Any]) -> Any:
        """Makes a batch of samples: a tuple as `fit` takes it, or else the network's inputs alone."""

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if not 0 <= index < self.steps:
            raise IndexError(f"An epoch has {self.steps} batches. Received: index={index}")
        self._finished |= index == self.steps - 1
        try:
            batch = self.batch(self.epoch, index) if self._pool is None else self._prefetch(index).result()
        except Exception as error:
            self.failure = error
            raise
        return batch if isinstance(batch, tuple) else (batch,)

    def on_epoch_begin(self) -> None:
        """Notes that the epoch's batches are used; called by `fit`."""
        self._began, self._finished = True, False

    def on_epoch_end(self) -> None:
        """Moves to the next epoch if this one was used; called by `fit`, also after it merely looked at one batch."""
        if self._began and self._finished:
            self.epoch += 1
        self._began = self._finished = False

    def item(self, epoch: int, index: int) -> Any:
        """Returns the item of a sample.

        Args:
            epoch: Epoch, 0 or more.
            index: Sample of the epoch, 0 to steps * batch size - 1.
        """
        return self._order[epoch * self.steps * self.batch_size + index]

    def batch(self, epoch: int, index: int) -> Any:
        """Prepares a batch in the calling thread.

        Args:
            epoch: Epoch, 0 or more.
            index: Batch of the epoch, 0 to steps - 1.
        """
        first = index * self.batch_size
        return self.collate(
            [
                self.sample(self.item(epoch, i), np.random.default_rng([self.seed, epoch, i]))
                for i in range(first, first + self.batch_size)
            ]
        )

    def _prefetch(self, index: int) -> Future:
        """Schedules a batch and the next few of the epoch; returns the first."""
        with self._lock:
            epoch = self.epoch
            wanted = [(epoch, i) for i in range(index, min(index + 1 + self._ahead, self.steps))]
            for key in [key for key in self._pending if key not in wanted]:
                self._pending.pop(key).cancel()
            for key in wanted:
                if key not in self._pending:
                    self._pending[key] = self._pool.submit(self.batch, *key)
            return self._pending.pop((epoch, index))


def _not_empty(items: Sequence[Any]) -> Sequence[Any]:
    if not len(items):
        raise ValueError("There are no items to choose from.")
    return items
