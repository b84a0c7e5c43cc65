"""Models for workers that do not have the launcher's files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from models.packages import PackageError, load_package
from tests.gcs_server import GcsServer
from transforms.output import model_files


@pytest.fixture
def package(tiny_model, tmp_path):
    """A package in a folder of its own, so that a test may take it away."""
    return load_package(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def output(tmp_path) -> str:
    return str(tmp_path / "out")


def test_a_machine_that_has_the_package_uses_its_own(package, output):
    with model_files.at_hand(package, output) as found:
        assert found == package


def test_a_machine_without_the_package_takes_it_from_the_output_folder(package, output):
    model_files.publish(package, output)
    shutil.rmtree(package.path)
    with model_files.at_hand(package, output) as found:
        assert found.build_network().output_shape[-1] == len(package.classes)
        assert replace(found, path=package.path) == package


def test_so_does_one_without_the_package_of_an_imported_network(imported_model, output, tmp_path):
    package = load_package(shutil.copytree(imported_model, tmp_path / "imported"))
    model_files.publish(package, output)
    shutil.rmtree(package.path)
    with model_files.at_hand(package, output) as found:
        assert found.read_graph() == load_package(imported_model).read_graph()
        assert replace(found, path=package.path) == package


def test_the_package_of_an_imported_network_in_cloud_storage_is_fetched(
    imported_model, cloud_storage_at
):
    package = load_package(imported_model)
    with GcsServer() as server, cloud_storage_at(server.url):
        for name in package.files:
            server.put("town", f"models/mine/{name}", (imported_model / name).read_bytes())
        assert replace(model_files.load("gs://town/models/mine"), path=imported_model) == package


def test_another_version_at_the_same_place_is_not_taken_for_the_package(package, output):
    model_files.publish(package, output)
    description = package.path / "model.json"
    changed = json.loads(description.read_text()) | {"mean": [0, 0, 0]}
    description.write_text(json.dumps(changed))
    with model_files.at_hand(package, output) as found:
        assert found.path != package.path
        assert load_package(found.path).mean == package.mean


def test_a_package_that_is_nowhere_is_named_with_both_places(package, output):
    shutil.rmtree(package.path)
    with (
        pytest.raises(PackageError, match=rf"tiny@\w+ is not at {package.path}, and {output}"),
        model_files.at_hand(package, output),
    ):
        pass


def test_a_damaged_copy_in_the_output_folder_is_refused(package, output):
    model_files.publish(package, output)
    shutil.rmtree(package.path)
    (weights,) = Path(output).rglob("model.weights.h5")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(PackageError, match="incomplete"), model_files.at_hand(package, output):
        pass


def test_a_package_in_cloud_storage_is_fetched(package, cloud_storage_at):
    with GcsServer() as server, cloud_storage_at(server.url):
        for name in package.files:
            server.put("town", f"models/mine/{name}", (package.path / name).read_bytes())
        found = model_files.load("gs://town/models/mine/")
        assert replace(found, path=package.path) == package
        assert found.build_network().output_shape[-1] == len(package.classes)


def test_a_package_that_is_not_in_cloud_storage_is_named(cloud_storage_at):
    with (
        GcsServer(buckets={"town": {}}) as server,
        cloud_storage_at(server.url),
        pytest.raises(PackageError, match="gs://town/none/model.json: .*no such object"),
    ):
        model_files.load("gs://town/none")


def test_other_forms_of_the_network_are_fetched_too(int8_model, output):
    package = load_package(int8_model)
    model_files.publish(package, output)
    elsewhere = replace(package, path=Path("/nowhere"))
    with model_files.at_hand(elsewhere, output) as found:
        assert found.network_in("int8") and replace(found, path=package.path) == package


def test_a_machine_whose_package_lacks_the_int8_network_fetches_it(int8_model, package, output):
    published = load_package(int8_model)
    model_files.publish(published, output)
    assert package.fingerprint == published.fingerprint
    with model_files.at_hand(replace(published, path=package.path), output) as found:
        assert found.path != package.path and found.network_in("int8")
