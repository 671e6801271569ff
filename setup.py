"""Installs the packages mrcnn, unet, trainkit and nucleus (the folder samples/nucleus)."""

from pathlib import Path

from setuptools import setup


def read_requirements():
    """Returns the requirement lines of requirements.txt without comments."""
    lines = Path(__file__).with_name("requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


requirements = read_requirements()

setup(
    packages=["mrcnn", "unet", "trainkit", "nucleus"],
    package_dir={"nucleus": "samples/nucleus"},
    install_requires=requirements,
    extras_require={
        "jax": ["jax>=0.4.34"],
        "torch": ["torch>=2.4"],
        "gpu": [line.replace("tensorflow", "tensorflow[and-cuda]", 1) for line in requirements if line.startswith("tensorflow")],
        "test": ["pytest>=8", "ruff>=0.6", "nbformat>=5.10", "nbclient>=0.10", "ipykernel>=6.29"],
    },
    entry_points={"console_scripts": ["nucleus=nucleus.cli:main"]},
)
