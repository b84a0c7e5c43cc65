"""What is understood of networks as they are published, from what their files state."""

import pytest

from models.classes import ClassTable
from models.graphs import Channels, Format, Gives, Layout, Resize
from models.importing.settling import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Understood,
    Wishes,
    settle,
)
from models.importing.sources import Fact, Facts, ModelImportError, Port, Source

CITYSCAPES = ClassTable.load("cityscapes")
NAMES = ("Road", "Tree", "Sky")
STATED = "a file"


def image(*shape: int | None, dtype: str = "float32", **quantised) -> Port:
    return Port("image", dtype, shape, **quantised)


def scores(*shape: int | None, dtype: str = "float32", name: str = "scores", **quantised) -> Port:
    return Port(name, dtype, shape, **quantised)


def source(photos: Port, *outputs: Port, format: Format = Format.ONNX, **facts) -> Source:
    files = {"network.onnx": b""}
    stated = Facts(**{name: Fact(value, STATED) for name, value in facts.items()})
    return Source(
        format=format, precision="f32", files=files, inputs=(photos,), outputs=outputs, facts=stated
    )


def wishes(
    classes: ClassTable | None = None,
    output: str | None = None,
    background: str | None = None,
    **facts,
) -> Wishes:
    stated = Facts(
        **{name: Fact(value, f"--{name.replace('_', '-')}") for name, value in facts.items()}
    )
    return Wishes(stated, classes, "--classes FILE", output, background)


def settled(found: Source, wished: Wishes | None = None) -> Understood:
    return settle(found, wished or Wishes(), "made")


def refusal(found: Source, wished: Wishes | None = None) -> str:
    with pytest.raises(ModelImportError) as caught:
        settled(found, wished)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def shapes(understood: Understood) -> tuple:
    """Layout and size of photos, whether it is open; layout, meaning and number of outputs."""
    described, graph = understood.description, understood.description.graph
    return (
        graph.input.layout.value,
        (described.input_width, described.input_height),
        graph.input.open,
        graph.output.layout.value,
        graph.output.gives.value,
        graph.output.outputs,
    )


PUBLISHED = {
    "torchvision's DeepLab": (
        source(image(None, 3, None, None), scores(None, 21, None, None, name="out"),
               scores(None, 21, None, None, name="aux")),
        wishes(input_size=(512, 512)),
        ("NCHW", (512, 512), True, "NCHW", "logits", 21),
    ),
    "SegFormer by Optimum, all axes open": (
        source(image(None, None, None, None), scores(None, None, None, None),
               class_names=CITYSCAPES.names, input_size=(1024, 512)),
        wishes(),
        ("NCHW", (1024, 512), True, "NCHW", "logits", 19),
    ),
    "SegFormer of a fixed size, logits at a quarter": (
        source(image(1, 3, 512, 512), scores(1, 150, 128, 128)),
        wishes(),
        ("NCHW", (512, 512), False, "NCHW", "logits", 150),
    ),
    "PIDNet, logits at an eighth": (
        source(image(1, 3, 1024, 2048), scores(1, 19, 128, 256)),
        wishes(),
        ("NCHW", (2048, 1024), False, "NCHW", "logits", 19),
    ),
    "MMSegmentation's deployed class ids": (
        source(image(None, 3, 512, 1024), scores(None, 1, 512, 1024, dtype="int64")),
        wishes(CITYSCAPES),
        ("NCHW", (1024, 512), False, "NCHW", "class ids", 19),
    ),
    "a binary U-Net with a sigmoid": (
        source(image(1, 3, 256, 256), scores(1, 1, 256, 256), gives=Gives.PROBABILITIES),
        wishes(ClassTable.of([("Other", (0, 0, 0)), ("Road", (9, 9, 9))])),
        ("NCHW", (256, 256), False, "NCHW", "probabilities", 1),
    ),
    "a softmax of Keras": (
        source(image(None, None, None, 3), scores(None, None, None, 11),
               gives=Gives.PROBABILITIES, format=Format.OPENVINO),
        wishes(input_size=(480, 352)),
        ("NHWC", (480, 352), True, "NHWC", "probabilities", 11),
    ),
    "NHWC scores of NCHW photos, as converters leave them": (
        source(image(1, 3, 512, 512), scores(1, 512, 512, 19)),
        wishes(),
        ("NCHW", (512, 512), False, "NHWC", "logits", 19),
    ),
    "DeepLab as TFLite, with an argmax": (
        source(image(1, 513, 513, 3, dtype="uint8", scale=0.0078125, zero_point=127),
               scores(1, 513, 513, dtype="int64"), format=Format.TFLITE, outputs=19),
        wishes(),
        ("NHWC", (513, 513), False, "NHWC", "class ids", 19),
    ),
    "a TFLite network with odd cells": (
        source(image(1, 513, 513, 3), scores(1, 65, 65, 21), format=Format.TFLITE),
        wishes(),
        ("NHWC", (513, 513), False, "NHWC", "logits", 21),
    ),
    "class ids of OpenVINO's model zoo": (
        source(image(1, 3, 1024, 2048), scores(1, 1, 1024, 2048, dtype="int32"),
               format=Format.OPENVINO, channels=Channels.BGR, mean=(0.0,) * 3, std=(1 / 255,) * 3),
        wishes(CITYSCAPES, background="last"),
        ("NCHW", (2048, 1024), False, "NCHW", "class ids", 20),
    ),
    "a network of half-open size": (
        source(image(1, 3, None, 640), scores(1, 19, None, 80)),
        wishes(input_size=(640, 360)),
        ("NCHW", (640, 360), False, "NCHW", "logits", 19),
    ),
}  # fmt: skip


@pytest.mark.parametrize("network", PUBLISHED)
def test_published_networks_are_understood(network):
    found, wished, expected = PUBLISHED[network]
    assert shapes(settled(found, wished)) == expected


def test_the_first_of_several_outputs_is_used_and_the_choice_is_told():
    found = PUBLISHED["torchvision's DeepLab"][0]
    understood = settled(found, wishes(input_size=(512, 512)))
    assert understood.description.graph.output.name == "out"
    assert any("out is used, not aux: choose by --output-name" in w for w in understood.warnings)
    chosen = settled(found, wishes(input_size=(512, 512), output="aux"))
    assert chosen.description.graph.output.name == "aux"
    assert not any("--output-name" in warning for warning in chosen.warnings)
    message = refusal(found, wishes(input_size=(512, 512), output="other"))
    assert "out: float32 ?x21x?x?, aux: float32 ?x21x?x?" in message and "--output-name" in message


LISTS = {
    "YOLO": (image(1, 3, 640, 640), (1, 116, 8400), (1, 32, 160, 160)),
    "Mask2Former": (image(1, 3, 512, 512), (1, 100, 134), (1, 100, 128, 128)),
    "Mask2Former of any size": (
        image(None, 3, None, None), (None, 100, 134), (None, 100, None, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("network", LISTS)
def test_networks_that_list_objects_are_refused(network):
    photos, objects, masks = LISTS[network]
    found = source(photos, scores(*objects, name="objects"), scores(*masks), input_size=(640, 640))
    message = refusal(found)
    assert "objects lists objects or regions" in message and "export the network" in message


@pytest.mark.parametrize(
    ("photos", "outputs", "said"),
    [
        (image(1, 3, 640, 640), [scores(1, 84, 8400)], "in the proportions of the photo"),
        (image(1, 3, 224, 224), [scores(1, 1000)], "a score or a class for each pixel"),
        (image(1, 1, 512, 512), [scores(1, 19, 512, 512)], "an axis of 3 colours, second or last"),
        (image(8, 3, 512, 512), [scores(8, 19, 512, 512)], "one photo at a time"),
        (image(3, 512, 512), [scores(19, 512, 512)], "four axes, such as 1x3x512x512"),
        (image(1, 3, 9, 9, dtype="int32"), [scores(1, 19, 9, 9)], "photos of type uint8, int8"),
        (image(1, 3, None, None), [scores(1, 19, None, None)], "give --input-size"),
        (image(1, 3, 64, 64), [scores(1, 5, 64, 64, dtype="int64")], "expected one for each pixel"),
    ],
)
def test_what_is_no_segmentation_of_photos_is_refused(photos, outputs, said):
    message = refusal(source(photos, *outputs))
    assert message.startswith(("found the ", "the input image: ")) and said in message


def test_a_network_with_two_inputs_is_refused():
    found = source(image(1, 3, 64, 64), scores(1, 19, 64, 64))
    two = Source(
        format=found.format,
        precision="f32",
        files=found.files,
        inputs=found.inputs * 2,
        outputs=found.outputs,
    )
    assert "found 2 inputs (image: float32 1x3x64x64, " in refusal(two)


def test_what_nobody_states_is_assumed_and_marked():
    understood = settled(source(image(1, 3, 512, 1024), scores(1, 19, 64, 128)))
    described = understood.description
    assert (described.mean, described.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert described.graph.input.channels is Channels.RGB
    assumed = {name for name, fact in understood.told.items() if fact.is_assumed}
    assert assumed == {"mean", "std", "colours", "resize", "output", "classes"}
    assert understood.told["classes"].source == "assumed: cityscapes, by their number"
    assert understood.told["licence"].value == "unknown: ask the author of the network"
    (warning,) = understood.warnings
    assert "stated nowhere" in warning and "--mean and --std" in warning and "--check" in warning


def test_options_win_over_what_the_file_states():
    found = source(
        image(None, 3, None, None), scores(None, 3, None, None),
        class_names=("A", "B", "C"), mean=(0.1,) * 3, std=(0.2,) * 3, channels=Channels.RGB,
        input_size=(64, 64), resize=Resize.PAD, licence="MIT", name="theirs",
    )  # fmt: skip
    stated = settled(found).description
    assert (stated.name, stated.classes.names, stated.mean) == (
        "theirs",
        ("A", "B", "C"),
        (0.1,) * 3,
    )
    assert (stated.graph.input.resize, stated.training["licence"]) == (Resize.PAD, "MIT")
    assert not settled(found).warnings
    table = ClassTable.of([(name, (1, 1, n)) for n, name in enumerate(NAMES)])
    wished = settled(
        found,
        wishes(
            table, mean=(0.0,) * 3, std=(1.0,) * 3, channels=Channels.BGR, input_size=(128, 96),
            resize=Resize.STRETCH, licence="mine", name="ours",
        ),
    )  # fmt: skip
    described = wished.description
    assert (described.name, described.classes, described.std) == ("ours", table, (1.0,) * 3)
    assert (described.input_width, described.input_height) == (128, 96)
    assert described.graph.input.channels is Channels.BGR
    assert described.graph.input.resize is Resize.STRETCH
    assert wished.told["mean"].source == "--mean" and not wished.warnings


def test_a_network_of_any_size_takes_the_nearest_multiples():
    found = source(image(1, 3, None, None), scores(1, 19, None, None), input_size=(1000, 500))
    described = settled(found)
    assert shapes(described)[1] == (992, 512)
    assert described.told["size"].value == "992x512, others too"
    assert described.told["size"].source == "a file, in multiples of 32"


def test_a_network_of_one_size_has_no_other():
    found = source(image(1, 3, 360, 640), scores(1, 19, 45, 80), input_size=(9, 9))
    assert shapes(settled(found))[1] == (640, 360)
    assert shapes(settled(found, wishes(input_size=(640, 360))))[1] == (640, 360)
    message = refusal(found, wishes(input_size=(1280, 720)))
    assert "--input-size 1280x720" in message and "takes 640x360 only" in message
    half = source(image(1, 3, 360, None), scores(1, 19, 45, None))
    assert "takes 640x360 only" in refusal(half, wishes(input_size=(640, 480)))


def test_keeping_the_ratio_is_for_networks_of_any_size():
    found = source(image(1, 3, 64, 64), scores(1, 19, 8, 8), resize=Resize.KEEP_ASPECT)
    understood = settled(found)
    assert understood.description.graph.input.resize is Resize.STRETCH
    assert understood.told["resize"].source == "its single size, for keep-aspect"
    message = refusal(found, wishes(resize=Resize.KEEP_ASPECT))
    assert "--resize keep-aspect" in message and "choose stretch or pad" in message
    open_size = source(
        image(1, 3, None, None), scores(1, 19, None, None), input_size=(64, 64),
        resize=Resize.KEEP_ASPECT,
    )  # fmt: skip
    assert settled(open_size).description.graph.input.resize is Resize.KEEP_ASPECT


@pytest.mark.parametrize(
    ("dtype", "quantised", "mean", "std"),
    [
        ("uint8", {}, 0, 1 / 255),
        ("int8", {}, 128 / 255, 1 / 255),
        ("uint8", {"scale": 1 / 128, "zero_point": 128}, 128 / 255, 128 / 255),
        ("int8", {"scale": 1 / 128, "zero_point": 0}, 128 / 255, 128 / 255),
    ],
)
def test_integers_are_the_bytes_of_photos(dtype, quantised, mean, std):
    understood = settled(source(image(1, 3, 64, 64, dtype=dtype, **quantised), scores(1, 19, 8, 8)))
    assert understood.description.mean == pytest.approx((mean,) * 3)
    assert understood.description.std == pytest.approx((std,) * 3)
    assert understood.told["mean"].source == f"its type {dtype}" and not understood.warnings
    graph = understood.description.graph.input
    assert (graph.scale, graph.zero_point) == (
        quantised.get("scale", 1), quantised.get("zero_point", 0)
    )  # fmt: skip


@pytest.mark.parametrize("option", ["mean", "std"])
def test_statistics_of_photos_up_to_255_are_refused(option):
    found = source(image(1, 3, 64, 64), scores(1, 19, 8, 8))
    message = refusal(found, wishes(**{option: (123.675, 116.28, 103.53)}))
    assert f"--{option} 123.675,116.28,103.53" in message and "divide it by 255" in message


def test_a_quantised_output_is_no_class_id():
    found = source(
        image(1, 64, 64, 3), scores(1, 8, 8, 19, dtype="uint8", scale=0.5, zero_point=3),
        format=Format.TFLITE,
    )  # fmt: skip
    given = settled(found).description.graph.output
    assert (given.gives, given.scale, given.zero_point) == (Gives.LOGITS, 0.5, 3)


@pytest.mark.parametrize("places", [0, -1])
def test_a_background_that_only_the_label_file_has_is_left_out(places):
    names = list(NAMES)
    names.insert(0 if places == 0 else len(names), "background")
    found = source(image(1, 3, 64, 64), scores(1, 3, 8, 8), class_names=tuple(names))
    understood = settled(found)
    assert understood.description.classes.names == NAMES
    assert understood.description.graph.output.channels == (0, 1, 2)
    assert "without 'background': the network tells 3 classes apart" in (
        understood.told["classes"].source
    )


def test_the_label_file_of_a_cityscapes_network_names_a_background_first():
    names = ("background", *CITYSCAPES.names)
    found = source(
        image(1, 513, 513, 3, dtype="uint8", scale=0.0078125, zero_point=127),
        scores(1, 513, 513, dtype="int64"),
        format=Format.TFLITE, outputs=19, gives=Gives.CLASS_IDS, class_names=names,
    )  # fmt: skip
    assert settled(found).description.classes == CITYSCAPES


def test_a_background_that_the_network_tells_apart_is_a_class():
    names = ("background", *NAMES)
    found = source(image(1, 3, 64, 64), scores(1, 4, 8, 8), class_names=names)
    assert settled(found).description.classes.names == names


@pytest.mark.parametrize(
    ("background", "channels", "noted"),
    [(None, (0, 1, 2), True), ("last", (0, 1, 2), False), ("first", (1, 2, 3), False)],
)
def test_an_output_more_than_classes_is_of_no_class(background, channels, noted):
    found = source(image(1, 3, 64, 64), scores(1, 4, 8, 8), class_names=NAMES, mean=(0.5,) * 3,
                   std=(0.5,) * 3)  # fmt: skip
    understood = settled(found, wishes(background=background))
    assert understood.description.classes.names == NAMES
    assert understood.description.graph.output.channels == channels
    assert understood.description.graph.output.outputs == 4
    assert any("give --background first" in each for each in understood.warnings) == noted


@pytest.mark.parametrize("known", [None, 4])
@pytest.mark.parametrize("background", ["first", "last"])
def test_class_ids_keep_a_class_for_the_background(background, known):
    """Such a network has no second best for its pixels."""
    facts = {"outputs": known} if known else {}
    found = source(
        image(1, 3, 64, 64), scores(1, 1, 64, 64, dtype="int64"), class_names=NAMES, **facts
    )
    described = settled(found, wishes(background=background)).description
    expected = ("Background", *NAMES) if background == "first" else (*NAMES, "Background")
    assert described.classes.names == expected
    assert described.graph.output.channels == (0, 1, 2, 3)
    of_labels = dict(zip(described.classes.names, described.classes.label_ids, strict=True))
    assert [of_labels[name] for name in NAMES] == [0, 1, 2]


def test_a_background_that_is_not_there_is_refused():
    found = source(image(1, 3, 64, 64), scores(1, 3, 8, 8), class_names=NAMES)
    message = refusal(found, wishes(background="first"))
    assert "--background first: found 3 outputs and 3 classes" in message


@pytest.mark.parametrize(
    ("number", "name"), [(11, "camvid"), (19, "cityscapes"), (21, "pascal-voc"), (150, "ade20k")]
)
def test_classes_that_nobody_names_are_known_by_their_number(number, name):
    understood = settled(source(image(1, 3, 64, 64), scores(1, number, 8, 8)))
    assert understood.description.classes == ClassTable.load(name)
    assert understood.told["classes"].is_assumed


@pytest.mark.parametrize(
    ("number", "said"),
    [(7, "tells 7 classes"), (1, "has one output, the score of")],
)
def test_classes_that_nobody_knows_have_to_be_given(number, said):
    message = refusal(source(image(1, 3, 64, 64), scores(1, number, 64, 64)))
    assert said in message and "nothing names them: give --classes (ade20k, camvid, " in message


def test_class_ids_of_an_unknown_number_have_to_be_named():
    message = refusal(source(image(1, 3, 64, 64), scores(1, 64, 64, dtype="int64")))
    assert "an unknown number of classes" in message and "--classes" in message


def test_other_classes_than_the_network_has_are_refused():
    message = refusal(source(image(1, 3, 64, 64), scores(1, 30, 8, 8)), wishes(CITYSCAPES))
    assert "tells 30 classes apart, and --classes FILE has 19 (19: road, sidewalk," in message


@pytest.mark.parametrize("gives", [Gives.LOGITS, Gives.PROBABILITIES])
def test_one_output_is_the_score_of_the_second_of_two_classes(gives):
    found = source(
        image(1, 3, 64, 64), scores(1, 1, 64, 64), class_names=("Other", "Road"), gives=gives
    )
    given = settled(found).description.graph.output
    assert (given.outputs, given.channels, given.gives) == (1, (0, 1), gives)
    single = source(image(1, 3, 64, 64), scores(1, 1, 64, 64), class_names=("Road",))
    message = refusal(single)
    assert "one output, the score of the second of two classes, and a file has 1" in message


def test_names_of_a_class_set_get_its_colours_in_any_order_and_spelling():
    names = tuple(name.upper() for name in reversed(CITYSCAPES.names))
    found = source(image(1, 3, 64, 64), scores(1, 19, 8, 8), class_names=names)
    assert settled(found).description.classes.classes == CITYSCAPES.classes[::-1]


def test_colours_are_those_stated_or_all_different():
    stated = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    found = source(image(1, 3, 64, 64), scores(1, 3, 8, 8), class_names=NAMES, colors=stated)
    assert tuple(each.color for each in settled(found).description.classes.classes) == stated
    many = tuple(f"class {number}" for number in range(255))
    found = source(image(1, 3, 64, 64), scores(1, 255, 8, 8), class_names=many)
    assert len({each.color for each in settled(found).description.classes.classes}) == 255


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Road", "road", "Sky"), "class name given twice: road"),
        (tuple(f"class {number}" for number in range(256)), "at most 255: masks have 8 bits"),
    ],
)
def test_names_that_make_no_table_are_refused(names, said):
    message = refusal(source(image(1, 3, 64, 64), scores(1, len(names), 8, 8), class_names=names))
    assert said in message


def test_axes_that_are_all_open_are_those_that_the_format_usually_has():
    for format, layout in ((Format.ONNX, Layout.NCHW), (Format.TFLITE, Layout.NHWC)):
        found = source(image(None, None, None, None), scores(None, None, None, None),
                       format=format, class_names=NAMES, input_size=(64, 64))  # fmt: skip
        graph = settled(found).description.graph
        assert (graph.input.layout, graph.output.layout) == (layout, layout)
