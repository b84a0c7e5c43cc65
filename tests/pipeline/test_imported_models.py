"""Imported networks get all that trained ones get: each command, from its line to its files."""

import io
import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml
from PIL import Image

from models.inputs import normalise
from models.packages import load_package
from tests.made_graphs import (
    CITYSCAPES,
    HEIGHT,
    WIDTH,
    giving_probabilities,
    giving_scores_in_one_size,
    imported,
)
from tests.reports import Report

KINDS = ("scores", "scores_in_one_size", "probabilities", "class_ids")
PIXELS = [f"pixels_{key}" for key in CITYSCAPES.keys]
CONFIDENCES = [f"confidence_{key}" for key in CITYSCAPES.keys]
ANGLES = [f"solid_angle_{key}" for key in CITYSCAPES.keys]
LABEL_IDS = np.array([entry.label_id for entry in CITYSCAPES.classes])


@pytest.fixture(scope="module")
def models(imported_model, class_ids_model, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "scores": imported_model,
        "scores_in_one_size": giving_scores_in_one_size(folder / "one_size").path,
        "probabilities": giving_probabilities(folder / "probabilities").path,
        "class_ids": class_ids_model,
    }


@pytest.fixture(scope="module")
def photos(make_photo, tmp_path_factory) -> Path:
    """A photo of the networks' size, and others."""
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate([(WIDTH, HEIGHT), (61, 97), (160, 80)]):
        make_photo(folder / f"{number}.png", *size, seed=number)
    return folder


@pytest.fixture(scope="module")
def outputs(citymask, models, photos, output_at, tmp_path_factory):
    """What a run with each of the networks gives."""
    found = {}
    for kind, model in models.items():
        found[kind] = output_at(tmp_path_factory.mktemp(kind) / "out")
        done = citymask("run", photos, "-o", found[kind].path, "--model", model, "--report")
        assert done.exit_code == 0, done.output
    return found


def mask_of(output, row) -> np.ndarray:
    with Image.open(output.path / row["mask"]) as image:
        assert image.mode == "P"
        return np.asarray(image)


def scores_of(photo: Path, model: Path) -> np.ndarray:
    """What ONNX Runtime makes of a photo of the network's size: `(classes, h, w)`."""
    package = load_package(model)
    pixels = normalise(np.asarray(Image.open(photo)), package.mean, package.std)
    session = onnxruntime.InferenceSession(package.path / "network.onnx")
    (scores,) = session.run(None, {"photo": pixels.transpose(2, 0, 1)[None].astype(np.float32)})
    return scores[0]


def probabilities_of(photo: Path, model: Path) -> np.ndarray:
    """The softmax of the scores, at the size of the photo."""
    size = WIDTH, HEIGHT
    scores = [cv2.resize(one, size) for one in scores_of(photo, model)]  # Bilinear.
    exponents = np.exp(np.array(scores) - np.max(scores, axis=0))
    return exponents / exponents.sum(axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pixel_is_counted_once(outputs, photos, kind):
    output = outputs[kind]
    assert list(output.rows.index) == ["0.png", "1.png", "2.png"] and output.failures.empty
    for _, row in output.rows.iterrows():
        mask = mask_of(output, row)
        with Image.open(photos / row["image"]) as photo:
            assert mask.shape == (row["height"], row["width"]) == photo.size[::-1]
        assert row[PIXELS].tolist() == np.bincount(mask.ravel(), minlength=19).tolist()
        assert sum(row[PIXELS]) == mask.size


@pytest.mark.parametrize("kind", KINDS)
def test_rows_name_the_model_and_the_precision(outputs, models, kind):
    package = load_package(models[kind])
    assert set(outputs[kind].rows["model"]) == {package.model_id}
    assert set(outputs[kind].rows["precision"]) == {"f32"}
    (record,) = outputs[kind].runs
    assert record["fingerprint"] == package.fingerprint
    assert record["versions"]["onnxruntime"] == onnxruntime.__version__


@pytest.mark.parametrize("kind", ["scores", "scores_in_one_size"])
def test_masks_are_those_of_onnx_runtime(outputs, models, photos, kind):
    expected = probabilities_of(photos / "0.png", models[kind]).argmax(axis=0)
    mask = mask_of(outputs[kind], outputs[kind].rows.loc["0.png"])
    assert len(np.unique(expected)) > 5
    assert (mask == expected).mean() > 0.999


def test_a_softmax_in_the_network_changes_nothing_but_rounding(outputs):
    """Of the probabilities, not of the logits, the larger one between two pixels is another."""
    for name in ("0.png", "1.png", "2.png"):
        one, other = (
            mask_of(output, output.rows.loc[name])
            for output in (outputs["scores"], outputs["probabilities"])
        )
        assert (one == other).mean() > 0.98


def test_class_ids_are_those_of_the_largest_scores(outputs, models, photos):
    """At the centres of the network's pixels; between them nearer ones outweigh the others."""
    mask = mask_of(outputs["class_ids"], outputs["class_ids"].rows.loc["0.png"])
    expected = scores_of(photos / "0.png", models["scores"]).argmax(axis=0)
    assert np.array_equal(mask[1::4, 1::4], expected)
    assert np.array_equal(mask[2::4, 2::4], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_does_nothing(citymask, outputs, models, photos, kind):
    output = outputs[kind]
    before = {name: (output.path / name).stat().st_mtime_ns for name in output.masks}
    done = citymask("run", photos, "-o", output.path, "--model", models[kind])
    assert done.exit_code == 0 and "nothing new" in done.output
    assert {name: (output.path / name).stat().st_mtime_ns for name in output.masks} == before


@pytest.mark.parametrize("kind", KINDS)
def test_windows_at_full_resolution(citymask, models, photos, output, kind):
    done = citymask("run", photos, "-o", output.path, "--model", models[kind], "--windows", 1)
    assert done.exit_code == 0, done.output
    for _, row in output.rows.iterrows():
        assert sum(row[PIXELS]) == mask_of(output, row).size == row["width"] * row["height"]
    assert output.failures.empty


@pytest.mark.parametrize("kind", KINDS)
def test_panoramas_are_measured_on_the_sphere(citymask, models, photos, output, kind):
    done = citymask(
        "run", photos / "2.png", "-o", output.path, "--model", models[kind],
        "--projection", "equirectangular",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (row,) = output.rows.to_dict("records")
    assert row["projection"] == "equirectangular"
    assert sum(row[angle] for angle in ANGLES) == pytest.approx(4 * math.pi, rel=1e-9)
    assert [row[angle] > 0 for angle in ANGLES] == [row[pixels] > 0 for pixels in PIXELS]
    assert 0 <= row["sky_view_factor"] <= 1
    assert mask_of(output, row).shape == (80, 160)


def test_confidences_are_the_softmax(citymask, models, photos, output):
    for kind in ("scores", "probabilities"):
        done = citymask(
            "run", photos, "-o", output.path, "--model", models[kind], "--confidence", "--force"
        )
        assert done.exit_code == 0, done.output
        row = output.rows[output.rows["model"].str.startswith(load_package(models[kind]).name)]
        row = row.loc["0.png"]
        expected = probabilities_of(photos / "0.png", models["scores"])
        with Image.open(output.path / row["mask"].replace(".png.png", ".png.confidence.png")) as of:
            found = np.asarray(of) / 255
        # Between pixels of the network logits are interpolated, or the logarithms of probabilities.
        assert np.abs(found - expected.max(axis=0)).max() < 0.05
        assert row["confidence"] == pytest.approx(expected.max(axis=0).mean(), abs=1e-3)
        assert row[CONFIDENCES].isna().tolist() == (row[PIXELS] == 0).tolist()


def test_confidences_of_class_ids_are_refused_before_anything_is_written(
    citymask, class_ids_model, photos, tmp_path
):
    out = tmp_path / "out"
    config = tmp_path / "nightly.yaml"
    config.write_text(
        yaml.safe_dump(
            {"inputs": [str(photos)], "output": str(out), "model": str(class_ids_model)}
            | {"confidence": True}
        )
    )
    for line in (
        ("run", photos, "-o", out, "--model", class_ids_model, "--confidence"),
        ("nightly", config),
    ):
        done = citymask(*line)
        assert done.exit_code == 2
        assert done.output.count("\n") == 1 and "gives class ids and no prob" in done.output
        assert not out.exists()


def test_windows_of_a_tiny_network_are_refused_before_anything_is_written(
    citymask, photos, tmp_path
):
    shape, photo = (1, len(CITYSCAPES), 6, 6), (1, 3, 24, 24)
    model = imported(tmp_path / "tiny", shape=shape, photo=photo).path
    done = citymask("run", photos, "-o", tmp_path / "out", "--model", model, "--windows", 1)
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert "--windows: found a network input of 24x24 pixels" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["jax", "tensorflow", "litert"])
def test_engines_that_do_not_run_it_are_refused_before_anything_is_written(
    citymask, imported_model, photos, tmp_path, engine
):
    out = tmp_path / "out"
    done = citymask("run", photos, "-o", out, "--model", imported_model, "--engine", engine)
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert f"onnx network, which {engine} does not run" in done.output
    assert not out.exists()


def test_engines_for_imported_networks_do_not_run_trained_ones(
    citymask, tiny_model, photos, tmp_path
):
    done = citymask(
        "run", photos, "-o", tmp_path / "out", "--model", tiny_model, "--engine", "onnxruntime"
    )
    assert done.exit_code == 2 and "onnxruntime runs imported networks" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_both_engines_of_a_network_give_its_masks(citymask, models, photos, outputs, output, kind):
    line = ("run", photos, "-o", output.path, "--model", models[kind], "--engine", "onnxruntime")
    assert citymask(*line).exit_code == 0
    for name, row in output.rows.iterrows():
        expected = mask_of(outputs[kind], outputs[kind].rows.loc[name])
        assert (mask_of(output, row) == expected).mean() > 0.999


@pytest.mark.parametrize("precision", ["int8", "f16"])
def test_a_precision_without_is_one_line(citymask, imported_model, photos, output, precision):
    done = citymask(
        "run", photos, "-o", output.path, "--model", imported_model, "--precision", precision
    )
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert f"computes in f32, not in {precision}" in done.output
    assert ("citymask quantise" in done.output) == (precision == "int8")


def test_a_required_gpu_that_is_not_there_is_one_line(citymask, imported_model, photos, output):
    done = citymask("run", photos, "-o", output.path, "--model", imported_model, "--require-gpu")
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert "a GPU is required" in done.output


def test_jax_as_the_backend_of_keras_does_not_matter(
    citymask, imported_model, photos, outputs, output, monkeypatch
):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    done = citymask("run", photos, "-o", output.path, "--model", imported_model)
    assert done.exit_code == 0, done.output
    assert output.rows[PIXELS].equals(outputs["scores"].rows[PIXELS])


def test_merged_classes_and_label_ids(citymask, class_ids_model, photos, outputs, output, tmp_path):
    merged = tmp_path / "merged.csv"
    merged.write_text("class,merged\nvegetation,green\nterrain,green\n")
    done = citymask(
        "run", photos, "-o", output.path, "--model", class_ids_model,
        "--label-ids", "--merge", merged,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for name, row in output.rows.iterrows():
        plain = outputs["class_ids"].rows.loc[name]
        expected = LABEL_IDS[mask_of(outputs["class_ids"], plain)]
        assert np.array_equal(mask_of(output, row), expected)
        assert row["merged_green"] == plain["pixels_vegetation"] + plain["pixels_terrain"]
    assert set(output.rows["model"]) == {f"{load_package(class_ids_model).model_id}+label_ids"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_has_the_card_of_the_model(outputs, models, kind):
    shown = Report(outputs[kind].path / "report").data["model"]
    package = load_package(models[kind])
    assert (shown["id"], shown["architecture"]) == (package.model_id, "exported by tests")
    assert shown["input"] == [WIDTH, HEIGHT]
    assert shown["training"] == {"source": package.name, "licence": "as tests are"}


@pytest.mark.parametrize("kind", ["scores", "class_ids"])
def test_indicators_are_those_of_cityscapes(citymask, outputs, kind):
    done = citymask("indicators", outputs[kind].path)
    assert done.exit_code == 0, done.output
    found = pd.read_csv(io.StringIO(done.output), index_col="image")
    row = outputs[kind].rows
    shares = {key: row[f"pixels_{key}"] / (row["width"] * row["height"]) for key in CITYSCAPES.keys}
    assert np.allclose(found["green_view_index"], shares["vegetation"] + shares["terrain"])
    assert np.allclose(found["sky_view"], shares["sky"])


def test_masks_are_exported_for_cityscapes_and_coco(citymask, outputs, tmp_path):
    output = outputs["class_ids"]
    done = citymask("export", output.path, "--format", "cityscapes", "--format", "coco-panoptic")
    assert done.exit_code == 0, done.output
    names = pd.read_csv(output.path / "exports" / "cityscapes" / "names.csv", dtype=str)
    files = sorted((output.path / "exports" / "cityscapes").rglob("*_labelIds.png"))
    assert len(files) == len(names) == 3
    expected = sorted(
        LABEL_IDS[mask_of(output, row)].tobytes() for _, row in output.rows.iterrows()
    )
    found = [np.asarray(Image.open(file)).astype(LABEL_IDS.dtype).tobytes() for file in files]
    assert sorted(found) == expected
    (described,) = (output.path / "exports" / "coco-panoptic").rglob("*.json")
    content = json.loads(described.read_text())
    assert [entry["name"] for entry in content["categories"]] == list(CITYSCAPES.names)
    assert len(content["annotations"]) == 3


def test_a_night_is_run_by_its_file(citymask, class_ids_model, photos, outputs, output, tmp_path):
    config = tmp_path / "nightly.yaml"
    places = {"inputs": [str(photos)], "output": str(output.path)}
    config.write_text(yaml.safe_dump(places | {"model": str(class_ids_model), "overlay": True}))
    done = citymask("nightly", config)
    assert done.exit_code == 0, done.output
    assert output.rows[PIXELS].equals(outputs["class_ids"].rows[PIXELS])
    assert len(list(output.path.glob("masks/*.overlay.jpg"))) == 3


def test_workers_give_what_one_process_gives(citymask, imported_model, photos, outputs, output):
    done = citymask(
        "run", photos, "-o", output.path, "--model", imported_model,
        "--workers", 2, "--unit-size", 1,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert output.rows[PIXELS].equals(outputs["scores"].rows[PIXELS])


def test_the_output_is_whole_and_can_be_compacted(citymask, outputs, tmp_path):
    folder = shutil.copytree(outputs["class_ids"].path, tmp_path / "out")
    assert citymask("verify", folder).exit_code == 0
    done = citymask("compact", folder)
    assert done.exit_code == 0, done.output


def test_evaluation_measures_it(citymask, imported_model, labelled_photos, tmp_path):
    done = citymask(
        "evaluate", "--model", imported_model, "--data", labelled_photos, "--split", "val",
        "--json", tmp_path / "measured.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert 0 < measured["pixel_accuracy"] < 0.5
    assert [entry["name"] for entry in measured["classes"]] == list(CITYSCAPES.names)


@pytest.mark.parametrize(
    ("option", "kind", "message"),
    [
        ("--start-from", "imported_model", "an imported onnx network, which has no Keras weights"),
        ("--teacher", "tiny_model", "a teacher needs the classes of the labels, road, sidewalk, "),
    ],
)
def test_what_cannot_start_or_teach_a_training_is_said_in_a_line(
    citymask, labelled_photos, tmp_path, request, option, kind, message
):
    done = citymask(
        "train", "unet", "--data", labelled_photos, "--output", tmp_path / "new", "--width", 0.1,
        "--input-size", "64x64", "--classes", "cityscapes", option, request.getfixturevalue(kind),
    )  # fmt: skip
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert message in done.output.splitlines()[-1]


def test_published_networks_segment_street_photos(citymask, shared_data, output, tmp_path):
    """Photos of Lund and panoramas of Stuttgart, by the networks' own files."""
    source = shared_data / "models" / "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite"
    model = tmp_path / "model"
    done = citymask("import", source, "--output", model, "--classes", "cityscapes")
    assert done.exit_code == 0, done.output
    folder = shared_data / "street_photos"
    known = pd.read_csv(folder / "stuttgart_singapore" / "metadata.csv")
    panoramas = known[known["projection_type"] == "spherical"]["file"].head(2)
    lines = [f"{folder / 'lund' / name},perspective" for name in ("01.jpg", "04.jpg")]
    lines += [f"{folder / 'stuttgart_singapore' / name},spherical" for name in panoramas]
    (tmp_path / "list.csv").write_text("\n".join(["uri,projection_type", *lines]))
    done = citymask("run", tmp_path / "list.csv", "-o", output.path, "--model", model)
    assert done.exit_code == 0, done.output
    rows = output.rows
    assert set(rows["precision"]) == {"int8"} and len(rows) == 4
    assert (rows[PIXELS].sum(axis=1) == rows["width"] * rows["height"]).all()
    on_sphere = rows["projection"] == "equirectangular"
    assert np.allclose(rows.loc[on_sphere, ANGLES].sum(axis=1), 4 * math.pi)
    lund = rows[~on_sphere]
    assert (lund["pixels_road"] > 0.2 * lund["width"] * lund["height"]).all()
    assert (lund["pixels_building"] > 0.1 * lund["width"] * lund["height"]).all()
