"""The Kubernetes objects: against the API's schemas, and against what the program promises."""

from pathlib import Path, PurePosixPath

import kubernetes_validate
import pytest
import yaml

from pipeline.nights.config import load_config

FILE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "nightly-cronjob.yaml"
OBJECTS = {found["kind"]: found for found in yaml.safe_load_all(FILE.read_text("utf-8"))}
CRON_JOB = OBJECTS["CronJob"]["spec"]
JOB = CRON_JOB["jobTemplate"]["spec"]
POD = JOB["template"]["spec"]
(CONTAINER,) = POD["containers"]
MOUNTS = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
VOLUMES = {volume["name"]: volume for volume in POD["volumes"]}


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("kind", ["ConfigMap", "PersistentVolumeClaim", "CronJob"])
def test_the_schemas_of_kubernetes_take_every_object(kind, version):
    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


def test_a_misspelt_field_would_be_found():
    wrong = yaml.safe_load(yaml.safe_dump(OBJECTS["CronJob"]))
    wrong["spec"]["jobTemplate"]["spec"]["podFailurPolicy"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="podFailurPolicy"):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_one_night_at_a_time():
    assert CRON_JOB["concurrencyPolicy"] == "Forbid"
    assert CRON_JOB["schedule"] == "30 1 * * *"
    assert CRON_JOB["timeZone"] == "Etc/UTC"
    assert 0 < CRON_JOB["startingDeadlineSeconds"] < JOB["activeDeadlineSeconds"] < 24 * 60 * 60


def test_only_what_may_end_better_is_tried_again():
    fail, ignore = JOB["podFailurePolicy"]["rules"]
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"]["values"] == [2, 3, 4]
    assert fail["onExitCodes"]["containerName"] == CONTAINER["name"]
    assert (ignore["action"], ignore["onPodConditions"][0]["type"]) == (
        "Ignore",
        "DisruptionTarget",
    )
    assert POD["restartPolicy"] == "Never", "a failure policy needs it"
    assert JOB["backoffLimit"] == 3


def test_there_is_time_to_end_in_order():
    assert POD["terminationGracePeriodSeconds"] == 600


def test_the_container_can_write_only_results_and_temporary_files():
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {name for name, mount in MOUNTS.items() if not mount.get("readOnly")}
    assert writable == {"output", "tmp"}
    assert VOLUMES["archive"]["persistentVolumeClaim"]["readOnly"] is True
    assert "emptyDir" in VOLUMES["tmp"]
    variables = {variable["name"]: variable["value"] for variable in CONTAINER["env"]}
    assert all(value.startswith("/tmp") for value in variables.values())
    assert "NUMBA_CACHE_DIR" in variables


def test_names_that_refer_to_each_other_agree():
    assert set(MOUNTS) == set(VOLUMES)
    assert VOLUMES["config"]["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
    assert (
        VOLUMES["output"]["persistentVolumeClaim"]["claimName"]
        == OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
    )
    config = PurePosixPath(CONTAINER["args"][-1])
    assert str(config.parent) == MOUNTS["config"]["mountPath"]
    assert config.name in OBJECTS["ConfigMap"]["data"]


def test_the_configuration_is_one_that_citymask_takes(tmp_path):
    (text,) = OBJECTS["ConfigMap"]["data"].values()
    path = tmp_path / "nightly.yaml"
    path.write_text(text)
    config = load_config(path)
    assert config.inputs == (MOUNTS["archive"]["mountPath"],)
    assert config.output == MOUNTS["output"]["mountPath"]
    assert config.limits.max_minutes * 60 < JOB["activeDeadlineSeconds"]
