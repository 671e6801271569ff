"""Installs mrcnn, unet, trainkit, nucleus (the folder samples/nucleus) and the shipped weights (the folder weights)."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def read_requirements() -> list[str]:
    """Returns the requirement lines of requirements.txt without comments."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def with_cuda(requirements: list[str]) -> list[str]:
    """Returns TensorFlow's requirement with the CUDA libraries it needs on a GPU."""
    return [
        line.replace("tensorflow", "tensorflow[and-cuda]", 1) for line in requirements if line.startswith("tensorflow>")
    ]


def sample_files() -> list[str]:
    """Returns the shipped images and masks, relative to the package nucleus."""
    package = ROOT / "samples" / "nucleus"
    files = (path for path in (package / "data").rglob("*") if path.is_file() and ".label_cache" not in path.parts)
    return [path.relative_to(package).as_posix() for path in files]


class BuildWithHook(build_py):
    """Puts a copy of trainkit.imgaug_hook and the `.pth` file that imports it beside the packages."""

    def run(self) -> None:
        super().run()
        target = Path(self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib)
        self.mkpath(str(target))
        self.copy_file("trainkit/keras_nucleus_imgaug.pth", str(target))
        self.copy_file("trainkit/imgaug_hook.py", str(target / "keras_nucleus_imgaug.py"))


requirements = read_requirements()
# Fitting an ensemble only: it needs OpenMP's library, which not every system has.
ensemble = ["lightgbm>=4.5"]
# Writing workbooks, and reading and writing ROIs of ImageJ.
exchange = ["openpyxl>=3.1", "roifile>=2024.1.10"]
# Saving exported networks with other settings, and exporting; releases of tf2onnx before 1.17 need an older protobuf.
onnx = ["onnxruntime>=1.20", "onnx>=1.17"]
export = [*onnx, "tf2onnx>=1.17", "pyyaml>=6"]
# Version 3 has the interface that is used; older versions of Python have none of it.
zarr = ['zarr>=3; python_version >= "3.11"']
# Work on several processes or machines.
cluster = ["dask[array]>=2024.8", "distributed>=2024.8"]
slides = ["openslide-python>=1.3", "openslide-bin>=4"]

setup(
    cmdclass={"build_py": BuildWithHook},
    packages=[
        *find_packages(include=["mrcnn", "mrcnn.*"]),
        "unet",
        "trainkit",
        "nucleus",
        *(f"nucleus.{name}" for name in find_packages("samples/nucleus")),
        "nucleus_weights",
    ],
    package_dir={"nucleus": "samples/nucleus", "nucleus_weights": "weights"},
    package_data={
        **{package: ["py.typed"] for package in ("mrcnn", "unet", "trainkit")},
        "nucleus": [*sample_files(), "*.ipynb", "py.typed"],
        "nucleus.evaluation.report": ["page.html"],
        "nucleus.experiments.publications": ["data/*.toml", "example.toml"],
        "nucleus_weights": ["nucleus_*.h5", "nucleus_*.onnx", "efficientnet_*.h5", "*.json", "*.md"],
    },
    include_package_data=False,
    install_requires=requirements,
    extras_require={
        "jax": ["jax>=0.4.34"],
        "torch": ["torch>=2.4"],
        "gpu": with_cuda(requirements),
        "ensemble": ensemble,
        "exchange": exchange,
        "onnx": onnx,
        "export": export,
        "search": ["optuna>=4"],
        "cluster": cluster,
        # Images and label images as OME-Zarr.
        "zarr": zarr,
        # Whole slides: SVS, NDPI, MRXS and others.
        "slides": slides,
        # Image files of microscopes: CZI, ND2, LIF.
        "formats": ["bioio>=1.5", "bioio-czi>=2", "bioio-lif>=1", "bioio-nd2>=1"],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=1", "ruff==0.17.*"],
        "test": [
            *ensemble,
            *exchange,
            *export,
            "bioimageio.spec>=0.5.14",
            "shapely>=2",
            "pytest>=8",
            "pytest-xdist>=3.7",
            "ruff==0.17.*",
            "nbformat>=5.10",
            "nbclient>=0.10",
            "ipykernel>=6.29",
            "optuna>=4",
            *cluster,
            *slides,
            *zarr,
        ],
    },
    entry_points={"console_scripts": ["nucleus=nucleus.start:main"]},
)
