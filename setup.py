"""Packaging of rdrop_fairseq; the only place that lists dependencies (tested versions: constraints.txt)."""

from pathlib import Path

from setuptools import find_packages, setup

# The last official release (0.12.2) neither installs nor imports on Python 3.11+ (mutable dataclass defaults,
# hydra-core < 1.1), so newer Pythons take a build of upstream main under the same import name.
FAIRSEQ = [
    "fairseq==0.12.2; python_version < '3.11'",
    "ve-fairseq==0.12.3; python_version >= '3.11' and sys_platform == 'linux' and platform_machine == 'x86_64'",
    "fairseq-fixed; python_version >= '3.11' and (sys_platform != 'linux' or platform_machine != 'x86_64')",
]
SUMMARIZATION = ["nltk", "rouge-score>=0.1.2", "tiktoken>=0.7"]
TRITON = ["triton>=3.1; sys_platform == 'linux' and platform_machine == 'x86_64'"]  # CUDA builds of torch bring it
PLOTS = ["matplotlib>=3.7"]
CHINESE = ["jieba>=0.42"]
VISION = ["timm>=1.0.9", "torchvision", "scikit-learn"]
TEST = ["pytest>=8", "pytest-xdist>=3.5", "ruff>=0.6", "mypy>=1.11", "types-PyYAML", "types-tqdm"]

setup(
    name="rdrop-fairseq",
    version="0.1.0",
    description="R-Drop for fairseq: right, several times faster, in a fraction of the memory",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.9,<3.13",
    packages=find_packages(include=["rdrop_fairseq", "rdrop_fairseq.*"]),
    package_data={"rdrop_fairseq": ["py.typed"]},
    install_requires=[
        "torch>=2.4",
        "numpy",
        "polib>=1.2",
        "PyYAML>=6",
        "regex",
        "sacrebleu>=2.3",
        "sacremoses>=0.1.1",
        "subword-nmt>=0.3.8",
        "tqdm>=4.64",
    ],
    extras_require={
        "fairseq": FAIRSEQ,
        "summarization": SUMMARIZATION,
        "plots": PLOTS,
        "triton": TRITON,
        "chinese": CHINESE,
        "vision": VISION,
        "test": TEST + SUMMARIZATION + PLOTS + CHINESE + VISION + TRITON,
    },
)
