"""The manifests: what a strict server takes, what a security reviewer accepts, and what a template may change."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_double.schema import problems

from swarmq.errors import OptionError, PodError
from swarmq.kubernetes import names
from swarmq.kubernetes.merging import merge, read_template
from swarmq.kubernetes.podspec import PodDefaults, PodRequest, deadline_of, pod_manifest, secret_manifest

REQUEST = PodRequest("swarm-1", "fix imports", "fix imports.2", 1, 3, b"payload", 3600.5, "n0nce")
DAY = "2026-11-26"


def pod(template: dict[str, Any] | None = None, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    return pod_manifest(REQUEST, PodDefaults("swarmq:1", template or {}, secrets), "0a1b2c3d", DAY)


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from manifest["spec"]["initContainers"]
    yield from manifest["spec"]["containers"]


@pytest.mark.parametrize("secrets", [(), ("model-keys", "git.credentials")])
def test_a_strict_server_takes_them(secrets: tuple[str, ...]) -> None:
    assert problems("pods", pod(secrets=secrets)) == []
    assert problems("secrets", secret_manifest(REQUEST, "0a1b2c3d", DAY)) == []


def test_the_schema_refuses_what_is_wrong() -> None:
    wrong = pod({"spec": {"runtimeClass": "gvisor"}})
    assert problems("pods", wrong)[0] == 'unknown field "spec.runtimeClass"'
    assert problems("pods", merge(pod(), {"metadata": {"labels": {"a": "not a label"}}}))
    assert problems("pods", merge(pod(), {"spec": {"containers": None}}))
    assert problems("pods", merge(pod(), {"spec": {"activeDeadlineSeconds": "60"}}))


def test_it_is_a_pod_that_the_restricted_standard_admits() -> None:
    manifest = pod(secrets=("keys",))
    spec = manifest["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
    assert {frozenset(volume) - {"name"} for volume in spec["volumes"]} <= {
        frozenset({"emptyDir"}),
        frozenset({"secret"}),
    }
    for container in containers(manifest):
        context = container["securityContext"]
        assert context == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}
        assert "envFrom" not in container


def test_only_the_init_container_sees_secrets() -> None:
    spec = pod(secrets=("keys",))["spec"]
    secret_volumes = {volume["name"] for volume in spec["volumes"] if "secret" in volume}
    (agent,) = spec["containers"]
    assert len(secret_volumes) == 2
    assert not secret_volumes & {mount["name"] for mount in agent["volumeMounts"]}
    assert "payload" not in str(agent["env"])
    medium = {volume["name"]: volume.get("emptyDir", {}).get("medium") for volume in spec["volumes"]}
    assert medium["payload"] == "Memory"


def test_labels_and_annotations_say_whose_it_is() -> None:
    metadata = pod()["metadata"]
    assert metadata["labels"][names.STAGE] == "1"
    assert metadata["labels"][names.TOKEN] == "3"
    assert metadata["annotations"][names.BRANCH] == "fix imports.2", "exactly, whatever labels can hold"
    assert metadata["annotations"][names.NONCE] == "n0nce"
    assert "payload" not in str(metadata)


def test_the_deadline_is_beyond_the_branchs_own() -> None:
    assert pod()["spec"]["activeDeadlineSeconds"] == 3601 + 600 + 60


def test_the_pod_tells_the_deadline_that_it_was_made_with() -> None:
    made = pod({"metadata": {"annotations": {names.DEADLINE: "1"}}})
    assert all(type(value) is str for value in made["metadata"]["annotations"].values()), "or no server takes them"
    assert deadline_of(made) == 3600.5


@pytest.mark.parametrize("told", [None, "", "soon", "0", "-5", "nan", "inf", "1e999"])
def test_a_deadline_that_is_none(told: str | None) -> None:
    made = pod()
    del made["metadata"]["annotations"][names.DEADLINE]
    made["metadata"]["annotations"] |= {} if told is None else {names.DEADLINE: told}
    assert deadline_of(made) is None
    assert deadline_of({"metadata": {}}) is None


def test_the_secret_holds_the_payload_and_the_pod_names_it() -> None:
    secret = secret_manifest(REQUEST, "0a1b2c3d", DAY)
    assert base64.b64decode(secret["data"]["payload"]) == b"payload"
    assert secret["metadata"]["name"] in str(pod()["spec"]["volumes"])
    assert secret["metadata"]["labels"][names.DAY] == DAY
    with pytest.raises(PodError, match="a Secret holds 1,048,576"):
        secret_manifest(PodRequest("s", "b", "b", 0, 1, b"x" * (1 << 20) + b"x", 1, ""), "0a1b2c3d", DAY)


def test_a_template_is_merged_over_it() -> None:
    manifest = pod(
        {
            "metadata": {"labels": {"team": "blue", names.BRANCH: "stolen"}, "annotations": {"note": "mine"}},
            "spec": {
                "restartPolicy": "Always",
                "runtimeClassName": "gvisor",
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "agents", "operator": "Exists"}],
                "securityContext": {"runAsUser": 2000},
                "containers": [
                    {
                        "name": "agent",
                        "resources": {"limits": {"memory": "8Gi"}},
                        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
                        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                    },
                    {"name": "sidecar", "image": "proxy:1"},
                ],
                "volumes": [{"name": "cache", "emptyDir": {}}, {"name": "tmp", "$patch": "delete"}],
            },
        }
    )
    spec = manifest["spec"]
    assert manifest["metadata"]["labels"]["team"] == "blue"
    assert manifest["metadata"]["labels"][names.BRANCH] != "stolen"
    assert (spec["restartPolicy"], spec["runtimeClassName"]) == ("Never", "gvisor")
    assert len(spec["tolerations"]) == 3
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsNonRoot"]) == (2000, True)
    agent, sidecar = spec["containers"]
    assert agent["resources"]["limits"] == {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "12Gi"}
    assert [variable["name"] for variable in agent["env"]] == ["HOME", "PYTHONUNBUFFERED", "HTTPS_PROXY"]
    assert sidecar == {"name": "sidecar", "image": "proxy:1"}
    assert [volume["name"] for volume in spec["volumes"]] == ["payload-secret", "payload", "work", "cache"]


def test_null_removes_a_field() -> None:
    assert "enableServiceLinks" not in pod({"spec": {"enableServiceLinks": None}})["spec"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "a pod is expected"),
        ("spec: [", "is not YAML"),
        ("kind: Deployment", "only a Pod"),
        ("specs: {}", "specs: a pod has no such field"),
        ("metadata: {name: mine}", "metadata.name is decided by swarmq"),
        ("spec: {containers: {agent: {}}}", "spec.containers is a list"),
        ("spec: {containers: [{image: x}]}", r"spec.containers\[0\] needs a name"),
        ("spec: {containers: [{name: agent, env: [{value: x}]}]}", r"env: each entry needs name"),
        ("spec: nothing", "metadata and spec hold fields"),
    ],
)
def test_a_template_that_is_none_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(text)
    with pytest.raises(OptionError, match=f"pod_template: .*{said}"):
        read_template(path)


def test_templates_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text("spec:\n  runtimeClassName: kata\n")
    assert pod(read_template(path))["spec"]["runtimeClassName"] == "kata"
    assert read_template(None) == {}
    with pytest.raises(OptionError, match="cannot be read"):
        read_template(tmp_path / "none.yaml")
