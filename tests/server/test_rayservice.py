"""The file of docs/ for KubeRay: what it names exists, and Serve takes it as it stands."""

import importlib
import re
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from dragoman.errors import UsageError
from dragoman.server.backpressure import HOOK, middlewares
from dragoman.server.replicas import build
from dragoman.server.serving import KEY

ROOT = Path(__file__).resolve().parents[2]
CLAIM, SERVICE = yaml.safe_load_all((ROOT / "docs" / "rayservice.yaml").read_text("utf-8"))
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
PODS = [
    CLUSTER["headGroupSpec"]["template"]["spec"],
    *(group["template"]["spec"] for group in CLUSTER["workerGroupSpecs"]),
]
CONFIG = ServeDeploySchema.model_validate(yaml.safe_load(SERVICE["spec"]["serveConfigV2"]))
(APPLICATION,) = CONFIG.applications


def test_the_application_is_what_the_import_path_builds(monkeypatch):
    monkeypatch.setenv(KEY, "a key")
    module, _, name = APPLICATION.import_path.partition(":")
    made = getattr(importlib.import_module(module), name)(APPLICATION.args)
    deployment = made._bound_deployment  # Serve has no public name for it
    assert [each.name for each in APPLICATION.deployments] == [deployment.name]
    (service,) = deployment.init_args
    assert service.spec.model == APPLICATION.args["model"]["model"]
    assert service.rules.key == "a key" and service.limits.sessions == 8
    assert deployment.max_ongoing_requests > service.limits.places
    assert deployment.max_queued_requests > 0


def test_all_pods_have_the_folder_and_the_key():
    for pod in PODS:
        (container,) = pod["containers"]
        assert APPLICATION.args["state_dir"] in [m["mountPath"] for m in container["volumeMounts"]]
        assert KEY in [entry["name"] for entry in container["env"]]
        claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]]
        assert claims == [CLAIM["metadata"]["name"]]


def test_all_proxies_hold_back_who_floods():
    for pod in PODS:
        environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
        module, _, name = environment[HOOK].rpartition(".")
        assert getattr(importlib.import_module(module), name) is middlewares


def test_the_version_of_ray_is_ours():
    pinned = re.search(r"^ray==(.*)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned is not None and CLUSTER["rayVersion"] == pinned[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"modle": {}}, "unknown modle"),
        ({"model": {"dtpye": "bf16"}}, "args.model"),
        ({"limits": {"session": 8}}, "args.limits"),
        ({"state_dir": ""}, "state_dir"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_name(monkeypatch, change, says):
    monkeypatch.setenv(KEY, "a key")
    with pytest.raises(UsageError, match=says):
        build({**APPLICATION.args, **change})


def test_a_cluster_without_a_key_is_refused(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(UsageError, match=KEY):
        build(APPLICATION.args)
