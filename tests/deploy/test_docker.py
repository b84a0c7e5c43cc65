"""The images: linted, pinned, and every package that they install asked for at the registry.

No image is built here. What resolves packages needs the package registry and nothing else.
"""

import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "docker"
CPU, GPU = FOLDER / "Dockerfile", FOLDER / "Dockerfile.gpu"
IMAGES = pytest.mark.parametrize("dockerfile", [CPU, GPU], ids=lambda path: path.name)

PYTHON = "3.11"
BEAM = re.compile(r"apache/beam_python([0-9.]+)_sdk:([0-9.]+)")
TARGET = ("--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28")
"""What packages are resolved for, whatever runs the test: the images' Python, on Debian 12."""

WHEELS = ("--only-binary", ":all:", "--no-binary", "google-apitools")
"""The images have no compiler. The one package without a wheel is Python alone."""


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    with dockerfile.open("rb") as content:
        structure = DockerfileParser(fileobj=content).structure
    return [(part["instruction"], part["value"]) for part in structure]


def values(dockerfile: Path, name: str) -> list[str]:
    return [value for instruction, value in instructions(dockerfile) if instruction == name]


def pinned(name: str) -> dict[str, str]:
    """The versions of a list of packages, each of which has hashes."""
    packages = re.findall(
        r"^(\S+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$",
        (FOLDER / name).read_text(),
        re.MULTILINE,
    )
    return {package: version for package, version, _ in packages}


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@IMAGES
def test_the_linter_has_nothing_to_say(dockerfile):
    done = subprocess.run(
        [program("hadolint"), "--failure-threshold", "style", dockerfile],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_all_base_images_have_a_version():
    names = values(CPU, "FROM") + re.findall(r"--from=(\S+)", CPU.read_text())
    foreign = [name.split(" AS ")[0] for name in names if name != "build"]
    assert len(foreign) == 4
    for name in foreign:
        assert re.search(r":[0-9][^:]*(@sha256:[0-9a-f]{64})?$", name), name
    assert all("@" in name for name in values(CPU, "FROM"))
    assert values(GPU, "FROM") == ["${CITYMASK_IMAGE}"], "it adds to the other image"


def test_the_image_has_the_boot_program_of_the_beam_that_is_installed():
    (found,) = BEAM.findall(CPU.read_text())
    assert found == (PYTHON, pinned("requirements.txt")["apache-beam"])
    assert all(f"python:{PYTHON}." in name for name in values(CPU, "FROM"))


def test_workers_begin_with_beams_boot_program():
    assert values(CPU, "ENTRYPOINT") == ['["/opt/apache/beam/boot"]']
    assert "/opt/apache/beam /opt/apache/beam" in CPU.read_text()
    assert not values(GPU, "ENTRYPOINT") and not values(GPU, "CMD")


def test_the_launcher_finds_its_program():
    (place,) = re.findall(r"FLEX_TEMPLATE_PYTHON_PY_FILE=(\S+)", CPU.read_text())
    assert f"deploy/dataflow/main.py {place}" in values(CPU, "COPY")
    assert PurePosixPath(place).is_absolute()


def test_all_that_is_copied_is_there_and_let_through():
    nothing, *rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert nothing == "*"
    through = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    own = [value for file in (CPU, GPU) for value in values(file, "COPY") if "--from=" not in value]
    for source in [source for value in own for source in value.split()[:-1]]:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, rule) for rule in through), source


def test_both_images_have_the_same_packages_but_for_cuda():
    """The launcher is the image without a GPU: what it pickles, workers with a GPU must read."""
    without, with_gpu = pinned("requirements.txt"), pinned("requirements-gpu.txt")
    assert without.items() <= with_gpu.items()
    more = sorted(with_gpu.keys() - without.keys())
    assert more and all(name.startswith("nvidia-") for name in more)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-gpu.txt"])
def test_the_pinned_packages_are_what_setup_py_asks_for(name, tmp_path):
    """The command in the file makes it again; what it has stays unless setup.py disagrees."""
    shutil.copy(FOLDER / name, tmp_path / name)
    command = shlex.split((FOLDER / name).read_text().splitlines()[1].removeprefix("#"))
    assert command[-2:] == ["--output-file", f"deploy/docker/{name}"]
    made = [program("uv"), *command[1:-1], str(tmp_path / name), "--quiet"]
    subprocess.run(made, cwd=ROOT, check=True)
    again = re.findall(r"^(\S+)==(\S+)", (tmp_path / name).read_text(), re.MULTILINE)
    assert again == list(pinned(name).items()), f"run: {shlex.join(command)}"


def test_nothing_is_installed_without_its_hash():
    """The list of hashes would let packages through that have none, and so would a build."""
    for dockerfile, name in ((CPU, "requirements.txt"), (GPU, "requirements-gpu.txt")):
        text = (FOLDER / name).read_text()
        lines = [line for line in text.splitlines() if re.match(r"\w", line)]
        assert len(lines) == len(pinned(name)) > 100
        for line in values(dockerfile, "RUN"):
            if "pip install" in line:
                assert "--require-hashes" in line or line.endswith(" .")
                assert "--no-deps" in line
    assert CPU.read_text().count("--no-build-isolation") == 2


@IMAGES
def test_every_pip_line_resolves(dockerfile, tmp_path):
    lines = [
        shlex.split(line)
        for value in values(dockerfile, "RUN")
        for line in value.split("&&")
        if line.split()[:2] == ["pip", "install"]
    ]
    assert lines
    for line in lines:
        done = subprocess.run(
            [program("uv"), *dry_run(line), "--target", tmp_path],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{shlex.join(line)}\n{done.stderr}"
        assert "Would install" in done.stderr


def dry_run(line: list[str]) -> list[str]:
    """A pip line of a Dockerfile, for uv: in the root of the project and for the image's Python."""
    here = [
        f"deploy/docker/{PurePosixPath(word).name}" if word.endswith(".txt") else word
        for word in line
        if word != "--no-cache-dir" and not word.startswith("--prefix=")
    ]
    wheels = WHEELS if "--requirement" in here else ()
    return [*here, "--dry-run", *TARGET, *wheels]
