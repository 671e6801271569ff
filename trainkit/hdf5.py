"""Weights of Keras 3 models to and from HDF5 files in the legacy layout (see `trainkit.hdf5_layout`).

Keras 3's own HDF5 layout keeps no names by which a part of a model could be loaded. The legacy layout, that of the
published Mask R-CNN and ImageNet weights, does: loading goes by the names of layers and variables.
"""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import h5py
import keras
import numpy as np

from trainkit.hdf5_files import WeightsFileError, open_for_reading, open_for_writing
from trainkit.hdf5_layout import FileLayer, read_file_layers, read_names, read_numbers, unique_name, write_groups

logger = logging.getLogger(__name__)

# Arrays of a layer by variable name.
Arrays = Mapping[str, np.ndarray]
# Most names that a message lists.
_LISTED = 12


@dataclass(frozen=True)
class LoadReport:
    """Layers that `load_weights` loaded and did not load.

    Attributes:
        loaded: Names of the model's layers that got weights.
        missing: Names of the model's layers with weights that the file lacks and that were not excluded.
        unused: Names of the file's layers that the model lacks.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _ModelLayer:
    """Innermost layer with weights.

    Attributes:
        path: Names of the layers from the model's own layer to this one.
        variables: Weights by name.
    """

    path: tuple[str, ...]
    variables: dict[str, keras.Variable]

    @property
    def group(self) -> str:
        return self.path[0]

    @property
    def name(self) -> str:
        return self.path[-1]


def save_weights(
    model: keras.Model, path: str | os.PathLike, *, dtype: str | None = None, compress: bool = False
) -> None:
    """Writes a model's weights in the legacy layout, atomically.

    Every layer of `model.layers` becomes a group, in their order and also those without weights; a nested model is
    one group with the weights of its inner layers.

    Args:
        model: Model whose layers are built.
        path: File to write.
        dtype: Floating-point type to store, such as "float16"; by default that of each variable, as for an array with
            values beyond its range.
        compress: True to store the arrays with gzip.

    Raises:
        WeightsFileError: Two layers in one nested model share a name, or the model itself (not one of its layers) owns
            variables.
        OSError: The file cannot be written.
    """
    with open_for_writing(path) as file:
        write_weights(file, model, dtype=dtype, compress=compress)


def write_weights(file: h5py.File, model: keras.Model, *, dtype: str | None = None, compress: bool = False) -> None:
    """Writes a model's weights into an open HDF5 file.

    Args:
        file: Open, empty file.
        model: Model whose layers are built.
        dtype: Floating-point type to store, such as "float16"; by default that of each variable, as for an array with
            values beyond its range.
        compress: True to store the arrays with gzip.

    Raises:
        WeightsFileError: The layout cannot hold the model, see `save_weights`.
    """
    layer_weights = {id(variable) for layer in model.layers for variable in layer.weights}
    if any(id(variable) not in layer_weights for variable in model.weights):
        raise WeightsFileError(f"the model {model.name} owns variables itself; the layout has no place for them")
    groups = ((layer.name, _named_arrays(layer, dtype)) for layer in model.layers)
    write_groups(file, groups, compress)


def repack_weights(
    source: str | os.PathLike, target: str | os.PathLike, *, dtype: str | None = "float16", compress: bool = True
) -> None:
    """Rewrites a weights file in another precision, without a training state, atomically; for sharing.

    Args:
        source: Checkpoint or weights file in the legacy layout.
        target: File to write.
        dtype: Floating-point type to store; None keeps that of each array, as does an array with values beyond its
            range.
        compress: True to store the arrays with gzip.

    Raises:
        WeightsFileError: The file cannot be read or has another layout.
        OSError: The target cannot be written.
    """
    with open_for_reading(source) as file:
        layers = read_names(file, "layer_names")
        if layers is None:
            raise WeightsFileError(f"{source}: holds no weights in the legacy layout")
        groups = [
            (
                layer,
                [
                    (name, _stored(read_numbers(file[layer][name]), dtype))
                    for name in read_names(file[layer], "weight_names")
                ],
            )
            for layer in layers
        ]
    with open_for_writing(target) as packed:
        write_groups(packed, groups, compress)


def load_weights(
    model: keras.Model, path: str | os.PathLike, exclude: Iterable[str] = (), by_name: bool = True
) -> LoadReport:
    """Loads weights by the names of layers and variables, whatever the nesting on either side.

    Nothing of the model is changed when an error is raised.

    Args:
        model: Model whose layers are built.
        path: File in the legacy layout: of matterport's Mask_RCNN, of keras.applications, of `save_weights`, or a
            whole Keras model in HDF5.
        exclude: Names of layers that keep their values. The name of a nested model stands for all layers inside it.
        by_name: If true, the layers that model and file share are loaded, and a warning lists the layers that the
            file lacks. If false, every layer of the model that is not excluded must be in the file.

    Returns:
        Names of the loaded, missing and unused layers.

    Raises:
        WeightsFileError: The file cannot be read or shares no layer with the model, a layer's variables, shapes or
            types differ, a value is NaN or infinite, or a layer is missing and `by_name` is false.
    """
    exclude = set(exclude)
    file_layers = read_file_layers(path)
    model_layers = [part for layer in model.layers for part in _parts(layer)]
    matches = _match(model_layers, file_layers)
    used = {id(match) for match in matches if match is not None}
    left = (layer for layer in file_layers if id(layer) not in used and not {layer.group, layer.name} & exclude)
    report = LoadReport(unused=[layer.name for layer in left])

    pairs, problems = [], []
    for layer, match in zip(model_layers, matches, strict=True):
        names = {*layer.path} if match is None else {*layer.path, match.group, match.name}
        if names & exclude:
            continue
        if match is None:
            report.missing.append(layer.name)
            continue
        report.loaded.append(layer.name)
        try:
            pairs.extend(_pair(layer.name, layer.variables, match.arrays))
        except _Mismatch as mismatch:
            problems.append(mismatch)

    if problems:
        raise WeightsFileError(f"{path}: {_describe(problems)}")
    if not report.loaded and report.missing:
        raise WeightsFileError(
            f"{path}: weights of another architecture; none of its layers ({_enumerate(report.unused)}) is in the "
            f"model {model.name} ({_enumerate(report.missing)})"
        )
    if report.missing and not by_name:
        raise WeightsFileError(f"{path}: has no weights for {_enumerate(report.missing)} of the model {model.name}")
    for variable, array in pairs:
        variable.assign(array)
    if report.missing:
        logger.warning("%s has no weights for %s; they keep theirs.", path, _enumerate(report.missing))
    return report


def assign(layer: keras.Layer, arrays: Arrays, source: str) -> None:
    """Assigns weights to a layer, by variable name or, if names differ, by order.

    Args:
        layer: Built layer without layers inside it, or a TimeDistributed layer.
        arrays: Array by variable name, such as a value of `read_layers`.
        source: Origin of the arrays for messages: a file, or a file and its layer.

    Raises:
        WeightsFileError: Number, shapes or types of the weights differ, or a value is NaN or infinite; the layer is
            unchanged.
    """
    assign_all([(layer, arrays, source)])


def assign_all(weights: Iterable[tuple[keras.Layer, Arrays, str]]) -> None:
    """Assigns weights to several layers, or to none of them.

    Args:
        weights: Layer, arrays and source of each layer; see `assign`.

    Raises:
        WeightsFileError: The arrays of a layer do not fit it; every layer is unchanged.
    """
    pairs = []
    for layer, arrays, source in weights:
        try:
            pairs += _pair(layer.name, _by_name(layer.weights), arrays)
        except _Mismatch as mismatch:
            raise WeightsFileError(f"{source}: {_describe([mismatch])}") from None
    for variable, array in pairs:
        variable.assign(array)


def as_assigned(array: np.ndarray, dtype: str) -> np.ndarray:
    """Converts a stored array to a variable's type, as long as the two are of one kind.

    Args:
        array: Array of a file.
        dtype: Type of the variable, in the words of Keras.

    Returns:
        The array in the variable's type; float32 for bfloat16, which NumPy lacks.

    Raises:
        ValueError: The array holds another kind of values, or whole numbers beyond the variable's type.
    """
    target = np.dtype(np.float32 if dtype == "bfloat16" else dtype)
    kinds = "iu" if target.kind in "iu" else target.kind
    if array.dtype.kind not in kinds:
        raise ValueError(f"has values of the type {array.dtype} in the file and {dtype} in the model")
    if target.kind in "iu" and array.size:
        limits = np.iinfo(target)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise ValueError(f"has whole numbers beyond the type {dtype}")
    # Numbers too large for the type become infinite, which the caller refuses or keeps.
    with np.errstate(over="ignore"):
        return array.astype(target)


class _Mismatch(Exception):
    """Layer whose weights do not fit.

    Args:
        layer: Name of the layer.
        text: Description of the difference.
        classes: True if only the last dimension, the number of outputs, differs.
    """

    def __init__(self, layer: str, text: str, classes: bool = False):
        super().__init__(f"layer {layer}: {text}")
        self.layer = layer
        self.classes = classes


def _parts(layer: keras.Layer, above: tuple[str, ...] = ()) -> Iterator[_ModelLayer]:
    """Yields the innermost layers with weights in a layer, the layer itself included."""
    path = (*above, layer.name)
    inner = list(layer._flatten_layers(include_self=False, recursive=False))
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = list(layer.layer._flatten_layers(include_self=False, recursive=False))
    inner_weights = {id(variable) for part in inner for variable in part.weights}
    own = [variable for variable in layer.weights if id(variable) not in inner_weights]
    if own:
        yield _ModelLayer(path, _by_name(own))
    for part in inner:
        yield from _parts(part, path)


def _by_name(variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    """Returns variables by their own names, numbered if two share one."""
    named: dict[str, keras.Variable] = {}
    for variable in variables:
        named[unique_name(variable.name, named)] = variable
    return named


def _named_arrays(layer: keras.Layer, dtype: str | None) -> list[tuple[str, np.ndarray]]:
    """Returns the weights of a layer with their names in the file: one group of the layout."""
    arrays: dict[str, np.ndarray] = {}
    for part in _parts(layer):
        for name, variable in part.variables.items():
            weight_name = f"{part.name}/{name}:0"
            if weight_name in arrays:
                raise WeightsFileError(f"two layers inside {layer.name} are named {part.name}")
            arrays[weight_name] = _stored(keras.ops.convert_to_numpy(variable), dtype)
    return list(arrays.items())


def _stored(array: np.ndarray, dtype: str | None) -> np.ndarray:
    """Converts an array to the type in which it is stored; HDF5 has no bfloat16, which becomes float32.

    An array with values beyond the range of that type keeps its own.
    """
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if dtype is None or not np.issubdtype(array.dtype, np.floating):
        return array
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    # Variances, of which there are few, may be beyond the range of half precision.
    too_large = np.isfinite(array).all() and not np.isfinite(converted).all()
    return array if too_large else converted


def _match(model_layers: list[_ModelLayer], file_layers: list[FileLayer]) -> list[FileLayer | None]:
    """Finds the file's layer for every layer of the model, or None.

    In this order: the same name in the same group; the only layer of the same group on both sides; the same name
    in any group, if it stands for one layer on both sides; in the same group, the name that Keras 2 made unique by
    a number behind it.
    """
    in_group, named = defaultdict(list), defaultdict(list)
    for layer in file_layers:
        in_group[layer.group].append(layer)
        named[layer.name].append(layer)
    groups, names = Counter(layer.group for layer in model_layers), Counter(layer.name for layer in model_layers)

    matches: list[FileLayer | None] = []
    for layer in model_layers:
        group = in_group[layer.group]
        same = [other for other in group if other.name == layer.name]
        alone = group if groups[layer.group] == 1 else []
        elsewhere = named[layer.name] if names[layer.name] == 1 else []
        numbered = [other for other in group if re.fullmatch(re.escape(layer.name) + r"_\d+", other.name)]
        unique = (found[0] for found in (same, alone, elsewhere, numbered) if len(found) == 1)
        matches.append(next(unique, None))
    return matches


def _pair(layer: str, variables: dict[str, keras.Variable], arrays: Arrays) -> list[tuple[keras.Variable, np.ndarray]]:
    """Pairs a layer's variables with arrays of their shapes and types, whose values are finite."""
    if variables.keys() == arrays.keys():
        found = [arrays[name] for name in variables]
    elif len(variables) == len(arrays):
        found = list(arrays.values())
    else:
        raise _Mismatch(layer, f"the file has {_enumerate(arrays)}, the model {_enumerate(variables)}")
    pairs = []
    for (name, variable), array in zip(variables.items(), found, strict=True):
        expected = tuple(variable.shape)
        if array.shape != expected:
            text = f"{name} has the shape {array.shape} in the file and {expected} in the model"
            # As with another number of classes.
            only_outputs_differ = name in ("kernel", "bias") and array.shape[:-1] == expected[:-1]
            raise _Mismatch(layer, text, classes=only_outputs_differ)
        try:
            converted = as_assigned(array, variable.dtype)
        except ValueError as error:
            raise _Mismatch(layer, f"{name} {error}") from error
        if not np.isfinite(converted).all():
            raise _Mismatch(layer, f"{name} has values that are NaN or infinite")
        pairs.append((variable, converted))
    return pairs


def _describe(problems: list[_Mismatch]) -> str:
    """Describes mismatches, and how to exclude the layers if the number of classes may be the cause."""
    text = "; ".join(str(problem) for problem in problems[:_LISTED])
    if len(problems) > _LISTED:
        text += f"; and {len(problems) - _LISTED} layers more"
    if all(problem.classes for problem in problems):
        names = [problem.layer for problem in problems]
        text += f". For another number of classes leave the output layers out: exclude={names}"
    return text


def _enumerate(names: Iterable[str]) -> str:
    """Joins names to a short list for a message."""
    names = list(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "nothing") + more
