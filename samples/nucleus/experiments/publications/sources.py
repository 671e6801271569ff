"""The data sets that the experiments used, and where they are to be had."""

from __future__ import annotations

from nucleus.experiments.publications.experiment import Source

DSB2018 = Source(
    name="2018 Data Science Bowl (BBBC038)",
    default="datasets/nucleus",
    obtain="The training images of the 2018 Data Science Bowl are needed in stage1_train/<ImageId>/{images,masks}: "
    "https://bbbc.broadinstitute.org/BBBC038 (stage1_train.zip, CC0), or "
    "https://www.kaggle.com/c/data-science-bowl-2018/data. Its test images have masks in stage1_solution.csv.",
)
GLAS = Source(
    name="GlaS challenge (Warwick-QU)",
    default="datasets/glas",
    obtain="The images of the GlaS challenge are needed in one folder (train_1.bmp, train_1_anno.bmp, testA_…, "
    "testB_…, Grade.csv): the Warwick-QU data set, https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/ (for "
    "research only).",
    tests={"A": "testA", "B": "testB"},
)
