"""What lies beside a network: label files, and what Hugging Face writes."""

import json
import shutil

import pytest

from models.graphs import Channels, Resize
from models.importing.companions import beside, names_in
from models.importing.sources import Fact, Facts, ModelImportError

SEGFORMER = {
    "architectures": ["SegformerForSemanticSegmentation"],
    "model_type": "segformer",
    "id2label": {"0": "road", "1": "sidewalk", "2": "sky"},
}


@pytest.fixture
def network(tmp_path):
    file = tmp_path / "models" / "segformer_streets.onnx"
    file.parent.mkdir()
    file.touch()
    return file


def write(network, **files):
    """Files beside a network; `__` stands for the dot."""
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (network.parent / name.replace("__", ".")).write_text(text)


def facts(network) -> Facts:
    return beside(network)[0]


def test_nothing_beside_a_network_states_nothing(network):
    assert beside(network) == (Facts(), ())


def test_hugging_face_names_classes_and_architecture(network):
    write(network, config__json=SEGFORMER)
    found = facts(network)
    assert found.class_names == Fact(("road", "sidewalk", "sky"), "config.json")
    assert found.architecture == Fact("SegformerForSemanticSegmentation", "config.json")


def test_classes_follow_their_numbers_not_their_order_in_the_file(network):
    names = {str(n): f"class {n}" for n in range(12)}
    write(network, config__json={"id2label": dict(sorted(names.items()))})
    assert facts(network).class_names.value == tuple(names.values())


def test_an_onnx_file_of_hugging_face_has_its_companions_one_folder_above(network):
    write(network, config__json=SEGFORMER)
    below = network.parent / "onnx" / "model.onnx"
    below.parent.mkdir()
    assert facts(below).class_names.value == ("road", "sidewalk", "sky")


def test_a_network_that_is_a_folder_has_its_companions_inside(network):
    write(network, config__json=SEGFORMER)
    assert facts(network.parent).architecture.value == "SegformerForSemanticSegmentation"


def test_placeholders_are_no_class_names(network):
    write(network, config__json={"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
    found, warnings = beside(network)
    assert found.class_names is None
    assert warnings == ("config.json has no class names, only LABEL_0 and the like",)


def test_bytes_are_rescaled_before_they_are_normalised(network):
    stated = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}
    write(network, preprocessor_config__json=stated)
    assert facts(network).mean.value == pytest.approx((0.5, 0.4, 0.3))
    assert facts(network).std.value == pytest.approx((0.2, 0.25, 0.5))
    write(network, preprocessor_config__json={**stated, "rescale_factor": 1 / 127.5})
    assert facts(network).mean.value == pytest.approx((0.25, 0.2, 0.15))
    assert facts(network).std.value == pytest.approx((0.1, 0.125, 0.25))


def test_bytes_that_are_not_rescaled_are_normalised_as_they_are(network):
    stated = {"image_mean": [127.5] * 3, "image_std": [127.5] * 3, "do_rescale": False}
    write(network, preprocessor_config__json=stated)
    assert facts(network).mean.value == pytest.approx((0.5, 0.5, 0.5))
    assert facts(network).std.value == pytest.approx((0.5, 0.5, 0.5))


def test_without_normalisation_photos_are_only_rescaled(network):
    stated = {"image_mean": [9, 9, 9], "image_std": [9, 9, 9], "do_normalize": False}
    write(network, preprocessor_config__json=stated)
    assert facts(network).mean.value == pytest.approx((0, 0, 0))
    assert facts(network).std.value == pytest.approx((1, 1, 1))


def test_flipped_channels_are_bgr_and_their_mean_is_stated_per_rgb_channel(network):
    stated = {
        "do_flip_channel_order": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3],
    }  # fmt: skip
    write(network, preprocessor_config__json=stated)
    found = facts(network)
    assert found.channels.value is Channels.BGR
    assert found.mean.value == pytest.approx((0.3, 0.2, 0.1))
    assert found.std.value == pytest.approx((3, 2, 1))


@pytest.mark.parametrize(
    ("stated", "size", "resize"),
    [
        ({"height": 512, "width": 1024}, (1024, 512), Resize.STRETCH),
        ({"shortest_edge": 640}, (640, 640), Resize.KEEP_ASPECT),
        (512, (512, 512), Resize.STRETCH),
        ([512, 1024], (1024, 512), Resize.STRETCH),
    ],
)
def test_the_size_of_photos_is_stated_in_several_ways(network, stated, size, resize):
    write(network, preprocessor_config__json={"size": stated})
    found = facts(network)
    assert (found.input_size.value, found.resize.value) == (size, resize)


def test_photos_that_are_not_resized_have_no_stated_size(network):
    write(network, preprocessor_config__json={"size": 512, "do_resize": False})
    assert facts(network).input_size is None


def test_labels_that_are_counted_from_one_are_told(network):
    write(network, preprocessor_config__json={"do_reduce_labels": True})
    assert any("count the classes from 1" in line for line in beside(network)[1])


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- vision\n---\n# Model\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: nvidia\n---\n", "nvidia"),
        ("# Model\nlicense: none\n", None),
    ],
)
def test_the_licence_stands_in_the_front_matter_of_the_model_card(network, card, licence):
    write(network, README__md=card)
    found = facts(network).licence
    assert (found and found.value) == licence


def test_a_damaged_front_matter_is_told_and_stops_nothing(network):
    write(network, README__md="---\nlicense: [\n---\n")
    found, warnings = beside(network)
    assert found.licence is None
    assert "README.md: its front matter is not valid YAML" in warnings[0]


@pytest.mark.parametrize(
    "text",
    [
        "road\nsky\ntree top\n",
        "\n  road\r\nsky \r\n\r\ntree top",
        "0 road\n1 sky\n2 tree top\n",
        "1: road\n2: sky\n3: tree top\n",
        "0,road\n1,sky\n2,tree top\n",
    ],
)
def test_a_label_file_has_a_name_per_line_perhaps_behind_its_number(text):
    assert names_in(text) == ("road", "sky", "tree top")


def test_numbers_that_do_not_count_the_lines_belong_to_the_names():
    assert names_in("1 way\n1 way out\n") == ("1 way", "1 way out")


def test_a_label_file_without_other_words_belongs_to_any_network(network):
    write(network, labels__txt="road\nsky\n")
    assert facts(network).class_names == Fact(("road", "sky"), "labels.txt")


def test_the_label_file_is_taken_whose_name_shares_most_with_the_network(network):
    write(network, labels__txt="a\n", indoor_labels__txt="b\n", segformer_streets_labels__txt="c\n")
    found, warnings = beside(network)
    assert found.class_names == Fact(("c",), "segformer_streets_labels.txt")
    assert not warnings


def test_a_label_file_of_another_network_is_told_and_not_taken(network):
    write(network, indoor_labels__txt="a\n")
    found, (warning,) = beside(network)
    assert found.class_names is None
    assert warning.startswith("indoor_labels.txt not read: no word of the network's name")


def test_of_label_files_that_fit_equally_none_is_taken(network):
    write(network, labels__txt="a\n", classes__txt="b\n")
    found, (warning,) = beside(network)
    assert found.class_names is None
    assert warning.startswith("classes.txt, labels.txt not read: which one is meant is not clear")


def test_a_class_table_also_gives_colours(network):
    write(network, classes__csv="name,red,green,blue\nroad,1,2,3\nsky,4,5,6\n")
    found = facts(network)
    assert found.class_names == Fact(("road", "sky"), "classes.csv")
    assert found.colors == Fact(((1, 2, 3), (4, 5, 6)), "classes.csv")


def test_the_networks_own_configuration_is_preferred_to_a_label_file(network):
    write(network, config__json=SEGFORMER, classes__csv="name,red,green,blue\nx,1,2,3\n")
    assert facts(network).class_names.source == "config.json"
    assert facts(network).colors is None


def test_colours_come_from_where_the_names_come_from():
    named = Facts(class_names=Fact(("road",), "config.json"))
    table = Facts(
        class_names=Fact(("sky",), "classes.csv"), colors=Fact(((1, 2, 3),), "classes.csv")
    )
    assert named.filled_from(table).colors is None
    assert Facts().filled_from(table) == table


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", '{"id2label": {"0": ', "not valid JSON"),
        ("config.json", "[" * 100_000, "not valid JSON"),
        ("config.json", "[1]", "found a list, expected an object"),
        ("config.json", '{"id2label": {"0": "a", "2": "b"}}', "a name for each number from 0"),
        ("config.json", '{"id2label": ["a"]}', "a name for each number from 0"),
        ("preprocessor_config.json", '{"image_mean": [1, 2]}', "2 values of image_mean"),
        ("preprocessor_config.json", '{"image_mean": ["a", 1, 2]}', "found the image_mean 'a'"),
        ("preprocessor_config.json", '{"image_mean": [NaN, 1, 2]}', "found the image_mean nan"),
        (
            "preprocessor_config.json",
            '{"image_mean": [1, 1, 1], "image_std": [1, 1, 0]}',
            "image_std of 0",
        ),
        ("preprocessor_config.json", '{"rescale_factor": 0}', "rescale_factor"),
        ("preprocessor_config.json", '{"size": {"height": -1, "width": 3}}', "found the size -1"),
        ("classes.csv", "name,red\n", "found the columns"),
    ],
)
def test_a_damaged_companion_is_refused_in_one_line_that_names_it(network, name, content, reason):
    (network.parent / name).write_text(content)
    with pytest.raises(ModelImportError) as error:
        beside(network)
    message = str(error.value)
    assert message.startswith(str(network.parent / name))
    assert reason in message
    assert "\n" not in message


def test_the_labels_of_the_published_network_belong_to_it_and_not_to_its_neighbour(
    shared_data, tmp_path
):
    for file in (shared_data / "models").iterdir():
        shutil.copy(file, tmp_path)
    (cityscapes,), (pascal,) = tmp_path.glob("*cityscapes*.tflite"), tmp_path.glob("*pascal*")
    assert facts(cityscapes).class_names.value[:2] == ("background", "road")
    found, (warning,) = beside(pascal)
    assert found.class_names is None
    assert warning.startswith("cityscapes_labels.txt not read")
