"""Models placed among the published entries of the GlaS challenge, where its test parts are scored."""

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus import cli
from nucleus.datasets.convert import convert
from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import evaluate_fully
from nucleus.evaluation.report.ranking import rank_sum_rows, rank_sums
from nucleus.evaluation.scores import rank_sum_table
from nucleus.images.writing import write_labels
from nucleus.prediction.folders import PredictionFolder


@pytest.fixture
def glas(tmp_path):
    """Both test parts, and predictions that are right in part A and miss half of part B."""
    for name in ("train_1", "testA_1", "testA_2", "testB_1"):
        image, labels = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
        image[10:30, 10:30], labels[10:30, 10:30] = 200, 1
        write_labels(tmp_path / "found" / f"{name}.png", labels.astype(np.int32))
        if name == "testB_1":
            labels[32:38, 40:50] = 2
        cv2.imwrite(str(tmp_path / f"{name}.bmp"), image)
        cv2.imwrite(str(tmp_path / f"{name}_anno.bmp"), labels)
    return tmp_path


def load(root, subset, **options):
    dataset = NucleusDataset(cache_dir=root / "cache", **options)
    dataset.load_nucleus(root, subset)
    dataset.prepare()
    return dataset


def evaluate(root, subset):
    return evaluate_fully(PredictionFolder(root / "found", "mine"), load(root, subset), progress=False)


def test_images_of_other_parts_have_no_rank(glas):
    for subset in ("testA", "testB", "all"):
        assert rank_sums([evaluate(glas, subset)]) is None


def test_images_that_were_scaled_have_no_rank(glas, tmp_path):
    fitted = load(glas, "testA+testB", fit=60)
    for name, labels in {fitted.image_info[index]["id"]: fitted.load_labels(index)[0] for index in range(3)}.items():
        write_labels(tmp_path / "fitted" / f"{name}.png", labels)
    convert(fitted, "labels", tmp_path / "converted", progress=False)
    for dataset in (fitted, load(tmp_path / "converted", "all")):
        evaluation = evaluate_fully(PredictionFolder(tmp_path / "fitted"), dataset, progress=False)
        assert evaluation.summary.loc["all", "mAP"] == 1 and rank_sums([evaluation]) is None


def test_a_model_is_ranked_by_what_its_parts_add_up_to(glas):
    evaluation = evaluate(glas, "testA+testB")
    a, b = (evaluate(glas, part).summary.loc["all"] for part in ("testA", "testB"))
    table = rank_sums([evaluation])
    pd.testing.assert_frame_equal(table, rank_sum_table({"mine": evaluation.glas_parts}))
    row = table.loc["mine"]
    for score, key in (("F1", "object_F1"), ("Dice", "object_Dice"), ("Hausdorff", "object_Hausdorff")):
        assert row[score, "A"] == pytest.approx(a[key]) and row[score, "B"] == pytest.approx(b[key])
    assert row["F1", "rank A"] == 1 and row["F1", "B"] == pytest.approx(2 / 3)
    (own,) = [line for line in rank_sum_rows(table, [evaluation]) if line["model"] == 0]
    assert own["name"] == "mine" and [cell.text for cell in own["cells"][:2]] == ["1.000", "1"]
    assert own["cells"][0].best and not own["cells"][2].best


def test_the_command_prints_writes_and_reports_the_ranks(glas, tmp_path, capsys, without_plots):
    arguments = ["evaluate", f"--dataset={glas}", "--subset=testA+testB", f"--predictions=mine={glas / 'found'}"]
    assert cli.main([*arguments, f"--output={tmp_path / 'out'}", f"--report={tmp_path / 'report'}"]) == 0
    assert "published entries of the GlaS challenge" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "rank_sums.csv", index_col="method")
    assert len(table) == 13 and table.loc["mine", "F1 A"] == 1 and table.loc["CUMedVision2", "Dice A"] == 0.897
    assert table["rank sum"].is_monotonic_increasing
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert 'id="ranks"' in page and "vision4GlaS" in page


def test_a_published_name_is_refused_before_anything_is_written(glas, tmp_path, capsys):
    arguments = ["evaluate", f"--dataset={glas}", "--subset=testA+testB", f"--predictions=ExB1={glas / 'found'}"]
    assert cli.main([*arguments, f"--output={tmp_path / 'out'}"]) == 1
    assert "ExB1" in capsys.readouterr().err and not (tmp_path / "out").exists()
