"""The manifests are valid for the API they are written for, and fit the service and each other."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.docker.conftest import DOCKER
from tests.docker.promql import dashboard_queries, references

MANIFEST = DOCKER / "kubernetes" / "audiolm.yaml"
API_VERSION = "1.37"


def documents() -> dict[str, Any]:
    """The manifest's objects by their kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(MANIFEST.read_text())}


def container() -> Any:
    return documents()["Deployment"]["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("kind", ["Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"])
def test_the_api_accepts_it(kind: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    validator.validate(documents()[kind], API_VERSION, strict=True)


def test_everything_selects_the_same_pods() -> None:
    objects = documents()
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "audiolm"


def test_replicas_scale_on_a_series_that_exists() -> None:
    exported = {reference.name for query in dashboard_queries().values() for reference in references(query)}
    for metric in documents()["HorizontalPodAutoscaler"]["spec"]["metrics"]:
        assert metric["pods"]["metric"]["name"] in exported


def test_probes_ask_what_the_service_answers() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"http": Settings.model_fields["port"].default}
    paths = {
        name: container()[name]["httpGet"]["path"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


def test_a_pod_that_ends_has_time_for_what_it_accepted() -> None:
    drain = next(float(env["value"]) for env in container()["env"] if env["name"] == "AUDIOLM_DRAIN_SECONDS")
    before = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = documents()["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert before + drain < grace


def test_only_settings_that_exist_are_set() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert {env["name"] for env in container()["env"]} <= known


def test_the_container_may_do_little() -> None:
    security = container()["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    mounts = container()["volumeMounts"]
    written = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert written == {"/data", "/tmp"}


def ray_service() -> Any:
    document = yaml.safe_load((DOCKER / "kubernetes" / "audiolm-ray.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayService")
    return document["spec"]


def test_ray_serve_reads_the_configuration_and_finds_the_application() -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="the extra [ray] is not installed")
    config = schema.ServeDeploySchema.model_validate(yaml.safe_load(ray_service()["serveConfigV2"]))
    module, name = config.applications[0].import_path.split(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert set(config.applications[0].args) == {"replicas_min", "replicas_max", "cpus", "gpus"}


def test_every_ray_node_runs_one_version_and_says_when_a_replica_is_lost() -> None:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    cluster = ray_service()["rayClusterConfig"]
    assert cluster["rayVersion"] == ray.__version__
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [group["template"]["spec"]["containers"][0] for group in groups]
    assert len({each["image"] for each in containers}) == 1
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for each in containers:
        environment = {variable["name"]: variable["value"] for variable in each["env"]}
        module, name = environment["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].split(":")
        assert getattr(importlib.import_module(module), name)()
        assert {name for name in environment if name.startswith(PREFIX)} <= known


def test_a_gpu_pod_has_room_for_one_replica() -> None:
    arguments = yaml.safe_load(ray_service()["serveConfigV2"])["applications"][0]["args"]
    worker = ray_service()["rayClusterConfig"]["workerGroupSpecs"][0]
    resources = worker["template"]["spec"]["containers"][0]["resources"]
    assert float(resources["limits"]["nvidia.com/gpu"]) == float(arguments["gpus"])
    assert float(resources["requests"]["cpu"]) >= float(arguments["cpus"])
    assert worker["maxReplicas"] >= int(arguments["replicas_max"])
