"""The configuration of every night: what it becomes, and what each mistake is answered with."""

import inspect
import json
import re
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

from pipeline.commands.run import run
from pipeline.errors import ConfigurationError
from pipeline.nights.config import NightlyConfig, load_config, nightly_config
from pipeline.runners.options import IN_PROCESS_RUNNER, pipeline_options
from pipeline.runs.settings import Section
from tests.gcs_server import GcsServer

DOCS = Path(__file__).resolve().parents[3] / "docs" / "nightly.md"

SMALL = "inputs: [photos]\noutput: out\n"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a text as `nightly.yaml` of the working folder."""
    monkeypatch.chdir(tmp_path)

    def of(text: str | bytes) -> NightlyConfig:
        data = text.encode() if isinstance(text, str) else text
        Path("nightly.yaml").write_bytes(data)
        return load_config("nightly.yaml")

    return of


@pytest.fixture
def refused(load):
    """The lines with which a text is refused."""

    def lines(text: str | bytes) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            load(text)
        return str(caught.value).splitlines()

    return lines


def keys_of(section: type[Section], prefix: str = "") -> list[str]:
    """All keys of a section, those of sections in it with a dot."""
    keys = []
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if inspect.isclass(annotation) and issubclass(annotation, Section):
            keys += keys_of(annotation, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def test_two_keys_are_enough(load, tmp_path):
    config = load(SMALL)
    assert config.inputs == (str(tmp_path / "photos"),)
    assert config.output == str(tmp_path / "out")
    assert (config.thresholds.max_failures, config.thresholds.drift) == (None, None)
    assert (config.thresholds.drift_nights, config.thresholds.drift_images) == (7, 100)
    assert (config.limits.max_images, config.limits.max_minutes) == (None, None)
    assert (config.retention.runs, config.retention.failures) == (None, None)
    assert (config.notify.command, config.notify.webhook) == (None, None)
    assert (config.notify.on, config.dates.by, config.beam) == ("always", "arrival", {})


def test_what_the_command_line_has_too_has_the_same_default(load):
    config = load(SMALL)
    options = run.make_context("run", ["photos", "--output", "out"]).params
    settings = config.settings()
    assert settings.keys() >= {"model", "overlay", "confidence", "label_ids", "merge", "batch_size"}
    assert settings.keys() >= {"unit_size", "max_pixels", "max_images", "by", "max_failures"}
    assert settings == {name: options[name] for name in settings}


def test_every_value_arrives(load):
    config = load(
        SMALL + "overlay: true\nconfidence: yes\nlabel_ids: true\nbatch_size: 2\nunit_size: 16\n"
        "max_pixels: 1000000\nmax_attempts: 5\nlimits: {max_images: 10, max_minutes: 0.5}\n"
        "thresholds: {max_failures: 5%, drift: 0.05, drift_nights: 14, drift_images: 1}\n"
        "retention: {runs: 90, failures: 30}\ndates: {by: capture}\n"
        "notify: {command: [mail, -s, night], webhook: 'https://example.org/x?y', on: alarm}\n"
    )
    assert config.overlay and config.confidence and config.label_ids
    assert (config.batch_size, config.unit_size, config.max_pixels) == (2, 16, 1_000_000)
    assert config.max_attempts == 5
    assert (config.limits.max_images, config.limits.max_minutes) == (10, 0.5)
    assert (config.thresholds.max_failures, config.thresholds.drift) == (0.05, 0.05)
    assert (config.thresholds.drift_nights, config.thresholds.drift_images) == (14, 1)
    assert (config.retention.runs, config.retention.failures) == (90, 30)
    assert config.dates.by == "capture"
    assert config.notify.command == ("mail", "-s", "night")
    assert (config.notify.webhook, config.notify.on) == ("https://example.org/x?y", "alarm")


def test_paths_start_from_the_folder_of_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "night.yaml").write_text(
        "inputs: [photos/, '../2026-*/*.jpg', /srv/a.tar, gs://bucket/x]\noutput: ../out\n"
        "model: models/mine\nmerge: merge.csv\nnotify: {command: [./tell.sh, ./argument]}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config("conf/night.yaml")
    assert config.inputs == (
        f"{folder}/photos", f"{tmp_path}/2026-*/*.jpg", "/srv/a.tar", "gs://bucket/x"
    )  # fmt: skip
    assert (config.output, config.model) == (f"{tmp_path}/out", f"{folder}/models/mine")
    assert config.merge == f"{folder}/merge.csv"
    assert config.notify.command == (f"{folder}/tell.sh", "./argument")


def test_paths_may_be_uris(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "inputs: ['file:///srv/Main%20Street', 'GS://town/a%20b']\noutput: file:/srv/out\n"
    )
    config = load_config(str(tmp_path / "c.yaml"))
    assert config.inputs == ("/srv/Main Street", "gs://town/a%20b")
    assert config.output == "/srv/out"
    (tmp_path / "c.yaml").write_text("inputs: [photos, 'file://server/photos']\noutput: out\n")
    with pytest.raises(ConfigurationError, match=r"c.yaml:1: inputs\[1\].*host 'server'"):
        load_config(str(tmp_path / "c.yaml"))


def test_paths_of_a_file_in_cloud_storage_start_there(cloud_storage_at):
    with GcsServer() as server, cloud_storage_at(server.url):
        text = "inputs: [photos/, '../2026-*/*.jpg', /srv/a.tar]\noutput: ../out\n"
        server.put("town", "conf/night.yaml", text.encode())
        config = load_config("gs://town/conf/night.yaml")
    assert config.inputs == ("gs://town/conf/photos", "gs://town/2026-*/*.jpg", "/srv/a.tar")
    assert config.output == "gs://town/out"


def test_the_name_of_a_shipped_model_stays_a_name(load):
    assert load(SMALL + "model: unet\n").model == "unet"


def test_a_folder_whose_name_looks_like_a_pattern_matches_itself_only(tmp_path):
    folder = tmp_path / "city[1]"
    (folder / "in[2]").mkdir(parents=True)
    (folder / "c.yaml").write_text("inputs: ['*.jpg', 'in[2]']\noutput: out\n")
    config = load_config(folder / "c.yaml")
    assert config.inputs == (f"{tmp_path}/city[[]1]/*.jpg", f"{folder}/in[2]")
    assert config.output == f"{folder}/out"


def test_beam_options_become_what_a_pipeline_takes(load):
    config = load(
        SMALL + "beam:\n  runner: DirectRunner\n  direct_num_workers: 2\n  job_name: night\n"
        "  save_main_session: true\n  streaming: false\n"
    )
    assert config.beam == {
        "runner": "DirectRunner", "direct_num_workers": 2, "job_name": "night",
        "save_main_session": True,
    }  # fmt: skip
    options = pipeline_options(config.beam)
    assert options.view_as(StandardOptions).runner == IN_PROCESS_RUNNER
    assert options.view_as(DirectOptions).direct_num_workers == 2


@pytest.mark.parametrize(
    "section", ["limits", "thresholds", "retention", "notify", "dates", "report", "beam"]
)
def test_a_section_whose_keys_are_commented_out_has_the_defaults(load, section):
    assert load(f"{SMALL}{section}:\n  # nothing\n") == load(SMALL)


def test_a_report_is_asked_for_by_a_word_or_by_a_section(load):
    assert not load(SMALL).report.write
    assert load(SMALL + "report: true\n").report == load(SMALL + "report: {write: true}\n").report
    assert load(SMALL + "report: false\n") == load(SMALL)
    url = "https://tiles.example/{z}/{x}/{y}"
    report = load(SMALL + f"report: {{write: true, gallery: 0, tiles: '{url}'}}\n").report
    assert (report.write, report.gallery, report.tiles) == (True, 0, url)


def test_null_stands_for_no_limit(load):
    config = load(
        SMALL + "merge: null\nlimits: {max_images: null, max_minutes: ~}\n"
        "thresholds: {max_failures: null, drift: null}\nretention: {runs: null, failures: null}\n"
        "notify: {command: null, webhook: null}\n"
    )
    assert config == load(SMALL)


def test_anchors_and_a_byte_order_mark_are_taken(load, tmp_path):
    config = load("\ufeffinputs: [&here photos]\noutput: out\nmerge: *here\n")
    assert config.merge == str(tmp_path / "photos")


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("limits:\n  max_minutes: soon", "4: limits.max_minutes: expected a number greater than 0, "
         "found 'soon'"),
        ("limits: {max_minutes: .inf}", "3: limits.max_minutes: expected a number greater than 0, "
         "found .inf"),
        ("limits: {max_images: 0}", "3: limits.max_images: expected a whole number greater than 0, "
         "found 0"),
        ("batch_size: 2.5", "3: batch_size: expected a whole number greater than 0, found 2.5"),
        ("unit_size: true", "3: unit_size: expected a whole number greater than 0, found true"),
        ("max_attempts:", "3: max_attempts: expected a whole number greater than 0, found nothing"),
        ("overlay: 1", "3: overlay: expected true or false, found 1"),
        ("merge: ''", "3: merge: expected a CSV file, found ''"),
        ("model: [a]", "3: model: expected a shipped model or a model package, found a list"),
        ("thresholds:\n  drift: 101%", "4: thresholds.drift: expected a share from 0 to 1 or a "
         "percentage such as 5%, found '101%'"),
        ("thresholds: {drift: .nan}", "3: thresholds.drift: expected a share from 0 to 1 or a "
         "percentage such as 5%, found .nan"),
        ("retention: {runs: 99999999999}", "3: retention.runs: expected a whole number of days, "
         "1 to 36500, found 99999999999"),
        ("report: {tiles: 'https://a.example'}", "3: report.tiles: expected an http(s) URL with "
         "{z}, {x} and {y}, found 'https://a.example'"),
        ("report: 1", "3: report: expected true, false or a mapping with write, gallery, tiles, "
         "attribution, indicators, found 1"),
        ("notify: {on: never}", "3: notify.on: expected always or alarm, found 'never'"),
        ("notify: {webhook: example.org}", "3: notify.webhook: expected an http:// or https:// "
         "URL, found 'example.org'"),
        ("notify: {webhook: 'http://x:port'}", "3: notify.webhook: expected an http:// or https:// "
         "URL, found 'http://x:port'"),
        ("notify: {command: mail}", "3: notify.command: expected a list: a program and its "
         "arguments, found 'mail'"),
        ("notify: {command: []}", "3: notify.command: expected a list: a program and its "
         "arguments, found an empty list"),
        ("notify:\n  command:\n  - mail\n  - 7", "6: notify.command[1]: expected text, found 7"),
        ("dates: {by: 2026-11-23}", "3: dates.by: expected arrival or capture, found 2026-11-23"),
        ("dates: arrival", "3: dates: expected a mapping with by, found 'arrival'"),
        ("limits: [1]", "3: limits: expected a mapping with max_images, max_minutes, found a list"),
        ("limits:\n  max_imags: 3", "4: limits.max_imags: unknown key; did you mean max_images?"),
        ("dates: {colour: red}", "3: dates.colour: unknown key; known are by"),
        ("overlays: true", "3: overlays: unknown key; did you mean overlay?"),
        ("overlay: true\noverlay: false", "4: overlay: given twice, first in line 3"),
        ("? [a]\n: 1", "3: expected a key, found a list"),
        ("merge: !!python/object/apply:os.system ['touch gone']", "3: merge: the YAML tag "
         "!!python/object/apply:os.system is not taken here"),
        ("merge: !!timestamp [x]", "3: merge: the YAML tag !!timestamp is not taken here"),
        ("merge: !secret x", "3: merge: the YAML tag !secret is not taken here"),
        ("merge: !!int seven", "3: merge: cannot be read: seven"),
        ("beam: local", "3: beam: expected a mapping of Beam's options, found 'local'"),
        ("beam:\n  runner: DirectRunner\n  direct_num_workers: many",
         "5: beam.direct_num_workers: invalid int value: 'many'"),
        ("beam:\n  direct_num_worker: 2", "4: beam.direct_num_worker: unknown Beam option; did you "
         "mean direct_num_workers?"),
        ("beam: {overlay: true}", "3: beam.overlay: unknown Beam option"),
        ("beam: {runner: [a]}", "3: beam.runner: expected text, a number, true or false"),
        ("beam: {direct_num_workers: true}", "3: beam.direct_num_workers: expected one argument"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_with_file_line_and_key(refused, lines, error, tmp_path):
    assert refused(f"{SMALL}{lines}\n") == [f"nightly.yaml:{error}"]
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("notify", "shown"),
    [
        ("webhook: 'https://hooks.example:99999/SECRET'", "'https://hooks.example:99999/...'"),
        ("webhook: 'https://me:SECRET@hooks.example:0/x'", "'https://...'"),
        ("webhook: 'ftp://hooks.example/SECRET?SECRET'", "'ftp://hooks.example/...'"),
        ("webhook: 'https:///services/SECRET'", "'https:///...'"),
        ("webhook: hooks.example/services/SECRET", "'hooks.example/...'"),
        ("webhook: me:x@SECRET", "'me:...'"),
        ('webhook: "htps://hooks.example/it\'s SECRET"', "'htps://hooks.example/...'"),
        ("webhook: [https://hooks.example/SECRET]", "a list"),
        ("webhook: !!int https://hooks.example/SECRET", "https://hooks.example/..."),
        ("https://hooks.example/SECRET: 1", "notify.https://hooks.example/..."),
        ("command: curl https://hooks.example/SECRET", "'curl https://hooks.example/...'"),
    ],
)
def test_a_web_hook_that_is_refused_keeps_its_secret(refused, notify, shown):
    (line,) = refused(f"{SMALL}notify:\n  {notify}\n")
    assert "SECRET" not in line
    assert shown in line


def test_a_section_that_is_a_web_hook_keeps_its_secret(refused):
    (line,) = refused(f"{SMALL}notify: https://hooks.example/SECRET\n")
    assert line.endswith("found 'https://hooks.example/...'")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "1: empty; expected keys and values"),
        ("# nothing yet\n", "1: empty; expected keys and values"),
        ("- a\n- b\n", '1: expected keys and values, "output: DIR", found a list'),
        ("nightly\n", "1: expected keys and values, \"output: DIR\", found 'nightly'"),
        ("output: out\n", "1: inputs: missing; expected a list of folders, glob patterns, images, "
         "shards or manifests"),
        ("inputs: []\noutput: out\n", "1: inputs: expected a list of folders, glob patterns, "
         "images, shards or manifests, found an empty list"),
        ("inputs:\n- a\n-\noutput: out\n", "3: inputs[1]: expected text, found nothing"),
        ("inputs: [a]\noutput: b: c\n", "2: not YAML: mapping values are not allowed here"),
        ("inputs: [a]\n\toutput: b\n", "2: not YAML: while scanning for the next token, found "
         "character '\\t' that cannot start any token"),
        ("inputs: [a]\noutput: *b\n", "2: not YAML: found undefined alias 'b'"),
        ("inputs: [a]\noutput: a\0b\n", "2: not YAML: special characters are not allowed"),
        (b"inputs: [a]\noutput: K\xf6ln\n", "2: not UTF-8; save the file as UTF-8"),
        ("[" * 5000, "1: not YAML: nested too deeply"),
        (SMALL + "---\n" + SMALL, "3: not YAML: expected a single document in the stream, but "
         "found another document"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_refused(refused, text, error):
    assert refused(text) == [f"nightly.yaml:{error}"]


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file(refused):
    lines = refused(
        "otput: out\nlimits:\n  max_minutes: soon\n  max_images: 0\n  max_images: 1\n"
        "beam: {direct_num_workers: many, nothing: 1}\noverlay: !x y\n"
    )
    assert [line.split(": ")[:2] for line in lines] == [
        ["nightly.yaml:1", "inputs"],
        ["nightly.yaml:1", "otput"],
        ["nightly.yaml:1", "output"],
        ["nightly.yaml:3", "limits.max_minutes"],
        ["nightly.yaml:4", "limits.max_images"],
        ["nightly.yaml:5", "limits.max_images"],
        ["nightly.yaml:6", "beam.direct_num_workers"],
        ["nightly.yaml:6", "beam.nothing"],
        ["nightly.yaml:7", "overlay"],
    ]


def test_an_alias_of_itself_and_a_tower_of_aliases_end_with_a_line(refused):
    tower = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    lines = refused(f"{SMALL}limits: &l\n  max_images: *l\na0: &a0 [x]\n{tower}\n")
    assert lines[0] == (
        "nightly.yaml:4: limits.max_images: expected a whole number greater than 0, found a mapping"
    )
    assert len(lines) == 31 and all("unknown key" in line for line in lines[1:])


def test_a_long_value_is_cut_in_its_error(refused):
    (line,) = refused(f"{SMALL}overlay: {'x' * 5000}\n")
    assert len(line) < 150


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path, reason in ((tmp_path / "no.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigurationError) as caught:
            load_config(path)
        assert str(caught.value).startswith(f"{path}: cannot be read: {reason}")


def test_the_example_of_the_documentation_is_a_configuration_with_every_key(load):
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    load(example)
    for key in keys_of(nightly_config()):
        name = key.rpartition(".")[2]
        assert re.search(rf"^ *(# )?{name}:", example, re.MULTILINE), key


def test_the_table_of_the_documentation_has_every_key_and_its_default(load):
    text = DOCS.read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([\w.]+)` \| [^|]+ \| ([^|]+) \|", text, re.MULTILINE))
    assert sorted(table) == sorted(keys_of(nightly_config()))
    config = load(SMALL).model_dump()
    for key, default in table.items():
        value = config
        for part in key.split("."):
            value = value[part]
        if key not in ("inputs", "output"):
            shown = "none" if value in (None, {}) else json.dumps(value).strip('"')
            assert default.strip("` ") == shown, key
