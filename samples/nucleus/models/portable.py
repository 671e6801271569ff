"""Models that other processes use too: each builds the model once, from its file and settings, or from a copy of it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from typing import Any

from nucleus.models.base import NucleusModel

# Models that a process keeps at most; a worker of a cluster that is up for long must not collect all of its runs.
_KEPT = 2
_built: OrderedDict[str, NucleusModel] = OrderedDict()
_lock = threading.RLock()


class PortableModel:
    """A model that can be sent to other processes.

    A model of `nucleus.load_model` is built again there, from the same file; another one is sent as it is. It is made
    sure that both are the same model, by what they say of their settings and weights.

    Args:
        model: The model.

    Attributes:
        key: Text that is the same for the same model; "" before the model is packed.
    """

    def __init__(self, model: NucleusModel) -> None:
        self._model: NucleusModel | None = model
        self.key, self._digest, self._packed = "", "", b""

    def pack(self) -> PortableModel:
        """Makes ready what is sent, and returns the object.

        Raises:
            ValueError: The model can neither be built again nor be sent.
        """
        if self._packed:
            return self
        import cloudpickle

        try:
            self._packed = cloudpickle.dumps(self._model.origin or _Given(self._model))
        except Exception as error:
            raise ValueError(
                f"A {type(self._model).__name__} that was made by hand cannot be sent to other processes ({error}). "
                "Save it, and take what nucleus.load_model(FILE) returns."
            ) from error
        self._digest = _digest(self._model)
        self.key = hashlib.sha256(self._digest.encode() + self._packed).hexdigest()
        return self

    def __getstate__(self) -> dict[str, Any]:
        self.pack()
        return {**vars(self), "_model": None}

    def get(self) -> NucleusModel:
        """Returns the model, which is built if this process has not built it yet.

        Raises:
            ValueError: The file is missing here or cannot be used, or makes another model.
        """
        with _lock:
            if self._model is None:
                self._model = _built.get(self.key) or self._build()
            return self._model

    def _build(self) -> NucleusModel:
        import cloudpickle

        model = cloudpickle.loads(self._packed)()
        if _digest(model) != self._digest:
            raise ValueError(
                "The model that a worker built has other weights, settings or versions of Keras than the client's. "
                "Its file has changed or is another one there, or the model was changed after it was loaded: save it "
                "and load it again."
            )
        while len(_built) >= _KEPT:
            _built.popitem(last=False)
        _built[self.key] = model
        return model


class _Given:
    """Returns a model that is sent with it."""

    def __init__(self, model: NucleusModel) -> None:
        self._model = model

    def __call__(self) -> NucleusModel:
        return self._model


def _digest(model: NucleusModel) -> str:
    return hashlib.sha256(json.dumps(model.describe(), sort_keys=True, default=str).encode()).hexdigest()


def forget_models() -> None:
    """Lets go of the models that this process has built for others."""
    with _lock:
        _built.clear()
