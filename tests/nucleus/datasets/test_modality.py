"""Clusters of contrast histograms are the modalities of the shipped images, and make a classes.csv for a data set."""

import itertools
from collections import Counter

import cv2
import numpy as np
import pytest

from nucleus import cli
from nucleus.datasets.dataset import DatasetError, NucleusDataset, shipped_data
from nucleus.datasets.layouts.tables import read_modalities, write_modalities
from nucleus.datasets.modality import agreement, cluster, estimate_modalities
from nucleus.experiments.publications.scoring import modality_parts
from nucleus.images.appearance import contrast_histogram, look


@pytest.fixture(scope="module")
def shipped():
    dataset = NucleusDataset()
    dataset.load_nucleus(shipped_data(), "all")
    dataset.prepare()
    return dataset


@pytest.fixture(scope="module")
def known(shipped):
    return {info["id"]: info["modality"] for info in shipped.image_info}


def test_three_clusters_of_the_shipped_images_are_the_classes_of_the_thesis(shipped, known):
    estimated = estimate_modalities(shipped, progress=False)
    stains = {"h&e-purple": "histology", "h&e-white": "histology"}
    assert estimated == {name: stains.get(modality, modality) for name, modality in known.items()}


def test_four_clusters_of_the_shipped_images_are_those_of_classes_csv(shipped, known):
    estimated = estimate_modalities(shipped, 4, progress=False)
    found = agreement([estimated[name] for name in known], list(known.values()))
    assert (found.purity, found.adjusted_rand) == (1, 1)
    assert Counter(estimated.values()) == {"fluorescence": 7, "histology-1": 3, "histology-2": 3, "brightfield": 3}


@pytest.mark.parametrize("count", [3, 4, 8])
def test_parts_of_table_5_1_are_found_by_estimated_modalities_as_by_known_ones(shipped, known, count):
    estimated = estimate_modalities(shipped, count, progress=False)
    for name, modality in estimated.items():
        parts = modality_parts({"modality": modality})
        assert parts == modality_parts({"modality": known[name]}), (modality, known[name])
        assert set(parts[1:]) == {modality.split("-")[0]} - {"brightfield"}
    if count == 8:
        assert {"fluorescence-2", "histology-2"} <= set(estimated.values())


def test_clusters_depend_on_the_seed_alone(shipped):
    histograms = np.random.default_rng(0).random((60, 5))
    clusters = [cluster(histograms, 7, seed) for seed in (3, 3, 4, 5)]
    np.testing.assert_array_equal(clusters[0], clusters[1])
    assert any((clusters[0] != other).any() for other in clusters[2:])
    sizes = np.bincount(clusters[0])
    assert len(sizes) == 7 and (np.diff(sizes) <= 0).all()


def test_plain_clusters_are_found_and_named_largest_first():
    points = np.repeat([[0.0, 0], [5, 5], [9, 0]], [2, 6, 4], axis=0)
    points += np.random.default_rng(0).normal(0, 0.1, points.shape)
    np.testing.assert_array_equal(cluster(points, 3), np.repeat([2, 0, 1], [2, 6, 4]))
    np.testing.assert_array_equal(cluster(np.zeros((4, 2)), 3), np.zeros(4))
    for count in (0, 13):
        with pytest.raises(DatasetError, match=f"12 images cannot be divided into {count} clusters"):
            cluster(points, count)


def test_a_histogram_counts_lightness_and_chroma_from_below():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:3] = 255
    image[5] = (200, 0, 0)
    lightness, chroma = np.split(contrast_histogram(image), 2)
    # 60 black pixels and 10 red ones of lightness 42, 30 white ones; only red has chroma.
    np.testing.assert_allclose(lightness, np.repeat([0.6, 0.7, 1], [6, 9, 1]), atol=1e-6)
    np.testing.assert_allclose(chroma, 1.5 * np.repeat([0.9, 1], [15, 1]), atol=1e-6)


@pytest.mark.parametrize(
    ("background", "nuclei", "expected"),
    [
        ((5, 5, 5), (120, 120, 120), "fluorescence"),
        ((0, 0, 10), (40, 60, 250), "fluorescence"),
        ((225, 190, 220), (110, 60, 140), "histology"),
        ((210, 210, 210), (90, 90, 90), "brightfield"),
    ],
)
def test_an_image_looks_like_its_background(background, nuclei, expected):
    image = np.full((40, 50, 3), background, np.uint8)
    image[5:15, 5:25] = nuclei
    assert look(image) == expected


def test_agreement_is_that_of_counted_pairs():
    rng = np.random.default_rng(1)
    clusters, classes = rng.integers(0, 4, 50).tolist(), rng.choice(["a", "b", "c"], 50).tolist()
    pairs = list(itertools.combinations(range(50), 2))
    one = [clusters[i] == clusters[j] for i, j in pairs]
    other = [classes[i] == classes[j] for i, j in pairs]
    both, expected = np.sum(np.logical_and(one, other)), np.sum(one) * np.sum(other) / len(pairs)
    found = agreement(clusters, classes)
    assert found.adjusted_rand == pytest.approx((both - expected) / ((np.sum(one) + np.sum(other)) / 2 - expected))
    frequent = [Counter(c for c, k in zip(classes, clusters, strict=True) if k == key) for key in set(clusters)]
    assert found.purity == sum(counts.most_common(1)[0][1] for counts in frequent) / 50
    assert agreement("aab", "xxy").adjusted_rand == 1 and agreement("aa", "xx").adjusted_rand == 1


def test_preprocessed_images_are_refused(shipped):
    dataset = NucleusDataset(preprocessing=lambda image: image)
    with pytest.raises(DatasetError, match="without preprocessing"):
        estimate_modalities(dataset)


def write_set(root):
    """Six images of two kinds with label images, without classes.csv."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        image = np.random.default_rng(number).integers(0, 20, (20, 24, 3), np.uint8) + (200 if number % 3 == 0 else 0)
        cv2.imwrite(str(root / f"images/{number}.png"), image.astype(np.uint8))
        cv2.imwrite(str(root / f"labels/{number}.png"), np.eye(20, 24, dtype=np.uint16))


def test_the_command_writes_what_the_other_commands_read(tmp_path, capsys):
    write_set(tmp_path / "set")
    arguments = ["modality", f"--dataset={tmp_path / 'set'}", "--clusters=2"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["4", "fluorescence"]
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path / "set", "all")
    assert [info["modality"] == "fluorescence" for info in dataset.image_info] == [False, True, True] * 2

    assert cli.main(arguments) == 1
    assert "classes.csv: already exists" in capsys.readouterr().err
    assert cli.main([*arguments, f"--output={tmp_path / 'two.csv'}"]) == 0
    assert "purity 1.000, adjusted Rand index 1.000" in capsys.readouterr().out
    assert read_modalities(tmp_path / "two.csv") == read_modalities(tmp_path / "set" / "classes.csv")


def test_a_file_of_classes_counts_instead_of_what_the_data_set_says(tmp_path):
    write_set(tmp_path)
    write_modalities(tmp_path / "classes.csv", {"0": "own", "1": "own"})
    write_modalities(tmp_path / "mine.csv", {"1": "mine, with a comma", "2": "mine"})

    def modalities(**options):
        dataset = NucleusDataset()
        dataset.load_nucleus(tmp_path, "all", **options)
        return [info["modality"] for info in dataset.image_info[:4]]

    assert modalities() == ["own", "own", "unknown", "unknown"]
    assert modalities(classes=tmp_path / "mine.csv") == ["own", "mine, with a comma", "mine", "unknown"]
    write_modalities(tmp_path / "other.csv", {"zebra": "mine"})
    with pytest.raises(DatasetError, match=r"other\.csv: names none of the images, such as 0"):
        modalities(classes=tmp_path / "other.csv")
    with pytest.raises(DatasetError, match=r"gone\.csv: there is no such file"):
        modalities(classes=tmp_path / "gone.csv")


def test_classes_csv_beside_coco_json_fills_what_the_json_does_not_say(tmp_path):
    write_set(tmp_path)
    assert cli.main(["convert", f"--dataset={tmp_path}", "--to=coco", f"--output={tmp_path / 'coco'}"]) == 0
    write_modalities(tmp_path / "coco" / "classes.csv", {"3": "brightfield"})
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path / "coco", "all")
    assert [info["modality"] for info in dataset.image_info] == ["unknown"] * 3 + ["brightfield"] + ["unknown"] * 2
