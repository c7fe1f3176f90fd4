"""Launch files, checked offline: by Ray's schema and scheduler, KubeRay's fields, and stubs of programs."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from cluster.arguments.usage import COMMANDS

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "cluster" / "launch"
RAY_UP = ["aws", "gcp"]
KUBE = ["raycluster", "rayjob"]
DOCKER = ["Dockerfile", "Dockerfile.cuda"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)

# Resources of the instance types in aws.yaml, which Ray would look up at AWS.
AWS_INSTANCE_TYPES = {"c7i.4xlarge": {"CPU": 16}, "g6.2xlarge": {"CPU": 8, "GPU": 1}, "m7i.large": {"CPU": 2}}

# Fields of ray.io/v1 and of pods that the manifests may use; {} allows any value, [] a list, "*" any name.
ENV = [{"name": {}, "value": {}}]
RESOURCES = {key: {"cpu": {}, "memory": {}, "nvidia.com/gpu": {}} for key in ("requests", "limits")}
CONTAINER = {
    "name": {},
    "image": {},
    "env": ENV,
    "resources": RESOURCES,
    "ports": [{"name": {}, "containerPort": {}}],
}
CONTAINER |= {"volumeMounts": [{"name": {}, "mountPath": {}}]}
POD = {"containers": [CONTAINER], "volumes": [{"name": {}, "persistentVolumeClaim": {"claimName": {}}}]}
POD |= {
    "securityContext": {"runAsNonRoot": {}, "runAsUser": {}, "runAsGroup": {}, "fsGroup": {}},
    "nodeSelector": {"*": {}},
}
POD |= {"tolerations": [{"key": {}, "operator": {}, "value": {}, "effect": {}}]}
GROUP = {"rayStartParams": {"*": {}}, "template": {"spec": POD}}
WORKERS = {"groupName": {}, "replicas": {}, "minReplicas": {}, "maxReplicas": {}, "numOfHosts": {}} | GROUP
CLUSTER = {
    "rayVersion": {},
    "enableInTreeAutoscaling": {},
    "autoscalerOptions": {"idleTimeoutSeconds": {}, "upscalingMode": {}},
}
CLUSTER |= {
    "authOptions": {"mode": {}, "secretName": {}},
    "headGroupSpec": {"serviceType": {}} | GROUP,
    "workerGroupSpecs": [WORKERS],
}
JOB_FIELDS = """entrypoint runtimeEnvYAML submissionMode shutdownAfterJobFinishes ttlSecondsAfterFinished
activeDeadlineSeconds backoffLimit jobId metadata entrypointNumCpus entrypointNumGpus entrypointResources
suspend"""
JOB = {name: {} for name in JOB_FIELDS.split()} | {"rayClusterSpec": CLUSTER}
MANIFEST = {"apiVersion": {}, "kind": {}, "metadata": {"name": {}}}


def read(name: str) -> Any:
    return yaml.safe_load((LAUNCH / f"{name}.yaml").read_text())


def prepare(config: dict[str, Any]) -> dict[str, Any]:
    """Fill a configuration with defaults and validate it, as `ray up` does."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return config


def cluster_spec(name: str) -> Any:
    spec = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def groups(name: str) -> list[Any]:
    """Return head and workers of a manifest."""
    spec = cluster_spec(name)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def container(group: Any) -> Any:
    (value,) = group["template"]["spec"]["containers"]
    return value


@pytest.mark.parametrize("name", [*RAY_UP, *KUBE])
def test_three_values_are_marked_for_editing(name: str) -> None:
    assert re.findall(r"# EDIT (\d+)", (LAUNCH / f"{name}.yaml").read_text()) == ["1", "2", "3"]


@pytest.mark.parametrize("name", RAY_UP)
def test_configuration_is_valid_and_scales_to_zero(name: str) -> None:
    config = prepare(read(name))
    types, head = config["available_node_types"], config["head_node_type"]
    assert types[head]["resources"] == {"CPU": 0}
    assert (types[head]["min_workers"], types[head]["max_workers"]) == (0, 0)
    for node_type in types.keys() - {head}:
        assert types[node_type]["min_workers"] == 0
        assert 0 < types[node_type]["max_workers"] <= config["max_workers"]
    assert 1 <= config["idle_timeout_minutes"] <= 30
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", RAY_UP)
def test_misspelled_key_is_rejected(name: str) -> None:
    import jsonschema

    config = read(name)
    config["idle_timeout_minuts"] = config.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuts"):
        prepare(config)


@pytest.mark.parametrize("name", RAY_UP)
def test_cluster_requires_token_and_dashboard_is_on_loopback(name: str) -> None:
    config = prepare(read(name))
    for key, role in (
        ("head_start_ray_commands", "--head"),
        ("worker_start_ray_commands", "--address=$RAY_HEAD_IP"),
    ):
        (start,) = [command for command in config[key] if "ray start" in command]
        assert role in start
        assert "export" in start and "RAY_AUTH_MODE=token" in start.partition("ray start")[0]
        assert "0.0.0.0" not in start
    (head,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert re.findall(r"--dashboard-host=(\S+)", head) == ["127.0.0.1"]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "auth_token" not in json.dumps(
        [value for key, value in config.items() if key.endswith("commands")]
    )


def test_nodes_on_google_cloud_have_a_separate_network() -> None:
    """In the default network, all hosts of the project could reach the shared folder and Ray's ports."""
    configs = [
        node_type["node_config"] for node_type in prepare(read("gcp"))["available_node_types"].values()
    ]
    assert {config["networkInterfaces"][0]["network"] for config in configs} == {"global/networks/melray"}
    assert [config["tags"] for config in configs] == [{"items": ["melray"]}] * len(configs)
    guide = (ROOT / "docs" / "gcp.md").read_text()
    rules = re.findall(r"firewall-rules create \S+ --network melray (.*)", guide)
    assert "networks create melray" in guide
    assert rules == [
        "--source-tags melray --target-tags melray --allow tcp,udp,icmp",
        "--target-tags melray --allow tcp:22",
    ]


def test_disks_on_google_cloud_are_of_a_type_that_all_machines_can_have() -> None:
    """Google's default is pd-standard, with which it does not create G2 machines."""
    config = prepare(read("gcp"))
    types = {
        disk["initializeParams"].get("diskType")
        for node_type in config["available_node_types"].values()
        for disk in node_type["node_config"]["disks"]
    }
    assert types == {f"zones/{config['provider']['availability_zone']}/diskTypes/pd-balanced"}


@pytest.mark.parametrize("name", RAY_UP)
def test_mounted_and_executed_files_exist(name: str) -> None:
    config = prepare(read(name))
    mounts = config["file_mounts"]
    for local in mounts.values():
        assert local.startswith("~") or (ROOT / local).is_file()
    commands = "\n".join(
        command for key, value in config.items() if key.endswith("setup_commands") for command in value
    )
    used = set(re.findall(r"~/melray/\w+\.\w+", commands))
    assert used == {"~/melray/node.sh"} and used < mounts.keys()
    script = (LAUNCH / "node.sh").read_text() + (LAUNCH / "packages.sh").read_text()
    for file in mounts.keys() - {"~/.ray/auth_token", "~/melray/node.sh"}:
        assert Path(file).name in script
    # Ray's default commands would install another release of Ray.
    assert "ray-wheels" not in commands


def node_types(name: str) -> dict[str, Any]:
    """Return the autoscaler's node types of a launch file; for manifests, those that KubeRay derives."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    if name in KUBE:
        config = _derive_autoscaling_config_from_ray_cr(
            {"metadata": {"name": "x", "namespace": "x"}, "spec": cluster_spec(name)}
        )
    else:
        config = read(name)
        if name == "aws":
            for node_type in config["available_node_types"].values():
                known = AWS_INSTANCE_TYPES[node_type["node_config"]["InstanceType"]]
                node_type["resources"] = known | node_type["resources"]
        # The autoscaler would read the file of the SSH key.
        config["auth"].pop("ssh_private_key", None)
    types: dict[str, Any] = AutoscalingConfig(config, skip_content_hash=True).get_node_type_configs()
    return types


def launched_nodes(
    name: str, demand: dict[str, float], count: int, failed: str | None = None
) -> dict[str, int]:
    """Return the nodes per type that Ray's autoscaler starts for `count` tasks when only the head is up."""
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=node_types(name),
        max_num_nodes=100,
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(demand)] * count),
        recoverable_resource_availabilities={failed: 0.0} if failed else {},
    )
    reply = ResourceDemandScheduler().schedule(request)
    return {launch.instance_type: launch.count for launch in reply.to_launch}


@pytest.mark.parametrize("name", RAY_UP)
def test_spot_nodes_are_preferred(name: str) -> None:
    assert launched_nodes(name, {"CPU": 1}, 40) == {"cpu-spot": 3}
    assert launched_nodes(name, {"CPU": 1, "GPU": 1}, 2) == {"gpu-spot": 2}
    assert launched_nodes(name, {"CPU": 1, "GPU": 1}, 3) == {"gpu-spot": 2, "gpu-on-demand": 1}
    assert launched_nodes(name, {"CPU": 1}, 40, failed="cpu-spot") == {"cpu-on-demand": 3}


@pytest.mark.parametrize("name", KUBE)
def test_pods_are_launched_for_tasks(name: str) -> None:
    assert launched_nodes(name, {"CPU": 1}, 20) == {"cpu": 3}
    assert launched_nodes(name, {"CPU": 1, "GPU": 1}, 2) == {"gpu": 2}
    assert node_types(name)["headgroup"].resources["CPU"] == 0


@pytest.mark.parametrize(
    ("name", "kind", "spec"), [("raycluster", "RayCluster", CLUSTER), ("rayjob", "RayJob", JOB)]
)
def test_manifest_has_only_fields_that_kuberay_knows(name: str, kind: str, spec: dict[str, Any]) -> None:
    manifest = read(name)
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
    assert list(unknown_fields(manifest, MANIFEST | {"spec": spec})) == []
    manifest["spec"]["rayVersoin"] = "2"
    assert list(unknown_fields(manifest, MANIFEST | {"spec": spec})) == ["spec.rayVersoin"]


def unknown_fields(value: Any, fields: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted paths in a manifest that `fields` does not allow."""
    if isinstance(fields, list):
        assert isinstance(value, list), path
        for item in value:
            yield from unknown_fields(item, fields[0], path)
    elif fields:
        assert isinstance(value, dict), path
        for key, item in value.items():
            key_path = f"{path}.{key}".lstrip(".")
            if key in fields or "*" in fields:
                yield from unknown_fields(item, fields.get(key, fields.get("*")), key_path)
            else:
                yield key_path
    else:
        assert not isinstance(value, dict | list), path


@pytest.mark.parametrize("name", KUBE)
def test_pods_of_a_cluster_are_consistent(name: str) -> None:
    spec = cluster_spec(name)
    assert spec["rayVersion"] == PINS["ray"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["authOptions"] == {"mode": "token", "secretName": "melray-token"}
    head, *workers = groups(name)
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["serviceType"] == "ClusterIP"
    (image,) = {container(group)["image"] for group in groups(name)}
    assert image.endswith(f"/melray:{PROJECT['version']}")
    for group in groups(name):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsUser"] == user(DOCKER[0])
        assert container(group)["resources"]["requests"] == container(group)["resources"]["limits"]
        assert {mount["name"] for mount in container(group)["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert all(isinstance(entry["value"], str) for entry in container(group)["env"])
    names = [group["groupName"] for group in workers]
    assert names == ["cpu", "gpu"]
    for text in (read(name)["metadata"]["name"], *names):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", text)
    for group in workers:
        assert 0 == group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert container(group)["resources"]["limits"].get("nvidia.com/gpu", "0") == (
            "1" if group["groupName"] == "gpu" else "0"
        )


def test_job_deletes_its_cluster_when_finished() -> None:
    spec = read("rayjob")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert 0 < spec["ttlSecondsAfterFinished"] <= 600
    assert spec["backoffLimit"] >= 1
    assert spec["activeDeadlineSeconds"] > 0


def test_job_runs_an_existing_command_with_its_gpus() -> None:
    program, command, *words = read("rayjob")["spec"]["entrypoint"].split()
    flags = dict(zip(words[::2], words[1::2], strict=True))
    assert program in PROJECT["scripts"] and command in COMMANDS
    assert flags.pop("--address") == "auto"
    # As text: importing the configuration classes would import torch, which takes longer than all tests here.
    settings = "".join(
        (ROOT / "pipeline" / name).read_text()
        for name in (
            "classifier/config.py",
            "training/config.py",
            "distributed/resource_config.py",
            "distributed/devices.py",
            "data/split.py",
        )
    )
    assert {flag.removeprefix("--").replace("-", "_") for flag in flags} <= set(
        re.findall(r"^    (\w+): ", settings, re.MULTILINE)
    )
    (mount,) = container(groups("rayjob")[0])["volumeMounts"]
    assert all(flags[flag].startswith(f"{mount['mountPath']}/") for flag in ("--shards", "--run"))
    # The training run requests its GPUs at start.
    (gpu,) = [group for group in groups("rayjob")[1:] if group["groupName"] == "gpu"]
    assert gpu["replicas"] == int(flags["--workers"]) * int(flags["--gpus-per-worker"])


def instructions(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile as keyword and arguments, with continued lines joined."""
    lines = [line for line in (LAUNCH / name).read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, " ".join(rest.split()))
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def copied(name: str) -> list[str]:
    """Return what a Dockerfile copies from the checkout."""
    return [source for word, rest in instructions(name) if word == "COPY" for source in rest.split()[:-1]]


def user(name: str) -> int:
    (number,) = [rest for word, rest in instructions(name) if word == "USER"]
    return int(number)


@pytest.mark.parametrize("name", DOCKER)
def test_image_copies_existing_files_only(name: str) -> None:
    assert copied(name) and all((ROOT / source).exists() for source in copied(name))
    assert {"melray", "models", "pipeline", "tune", "cluster"} < set(copied(name))
    first, *rules = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert first == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert {source.partition("/")[0] for source in copied(name)} <= allowed
    assert not allowed & {"data", "runs", "shards", ".env", ".venv", ".git", "tests"}
    assert {"**/__pycache__", "**/.env*"} <= set(rules)


@pytest.mark.parametrize("name", DOCKER)
def test_image_has_supported_python_and_pinned_packages(name: str) -> None:
    steps = instructions(name)
    word, base = steps[0]
    match = re.fullmatch(r"python:(3\.\d+)-slim", base)
    assert word == "FROM" and match and match[1] in SpecifierSet(PROJECT["requires-python"])
    commands = "\n".join(rest for word, rest in steps[1:] if word in ("RUN", "COPY"))
    assert not re.search(r"(torch|ray)\S*[=~<>]=", commands)
    assert "constraints.txt" in copied(name)
    # The packages' layer comes before the code's.
    order = [(word, rest) for word, rest in steps if "packages.sh" in rest or rest == "models models"]
    assert [word for word, _ in order] == ["COPY", "RUN", "COPY"]
    assert order[1][1].endswith("packages.sh cuda" if name.endswith("cuda") else "packages.sh cpu")


@pytest.mark.parametrize("name", DOCKER)
def test_image_runs_unprivileged_and_holds_no_secrets(name: str) -> None:
    assert user(name) > 0
    words = [word for word, _ in instructions(name)]
    assert "RUN" not in words[words.index("USER") :] and "ADD" not in words
    settings = " ".join(rest for word, rest in instructions(name) if word in ("ENV", "ARG", "LABEL"))
    assert not re.search(r"token|secret|password|passwd|credential|_key|api.?key", settings, re.IGNORECASE)


def test_images_differ_only_in_torch_and_compiler() -> None:
    cpu, cuda = map(instructions, DOCKER)
    (compiler, packages, driver) = [step for step in cuda if step not in cpu]
    assert compiler[0] == "RUN" and {"wget", "gcc", "libc6-dev"} <= set(compiler[1].split())
    assert "#include <Python.h>" in compiler[1]  # the build fails without the headers
    assert packages == (
        "RUN",
        "--mount=type=cache,target=/root/.cache/pip PIP_ROOT_USER_ACTION=ignore bash packages.sh cuda",
    )
    assert driver == ("ENV", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
    assert len(cpu) == len(cuda) - 1


def test_pods_without_gpu_are_not_given_one() -> None:
    """An image that sets NVIDIA_VISIBLE_DEVICES gives every container on a GPU node all of its GPUs."""
    assert not any("NVIDIA_VISIBLE_DEVICES" in rest for name in DOCKER for _, rest in instructions(name))


def write_stub(folder: Path, name: str, line: str = "") -> None:
    """Write a program that records its call, then executes `line`."""
    path = folder / name
    path.write_text(f'#!/bin/bash\necho "{name} $*" >> "$CALLS"\n{line}\n')
    path.chmod(0o755)


def run_script(
    tmp_path: Path, script: str, *arguments: str, gpu: bool = False, failing_updates: int = 0
) -> list[str]:
    """Run a script as on a node, with stubs for programs that would change the host; return their calls.

    The first `failing_updates` attempts to update the package lists fail, as while their lock is held.
    """
    node, programs = tmp_path / "melray", tmp_path / "programs"
    for folder in (node, programs, tmp_path / ".ray", tmp_path / "melray-venv" / "bin"):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (
        LAUNCH / "node.sh",
        LAUNCH / "packages.sh",
        ROOT / "constraints.txt",
        ROOT / "pyproject.toml",
    ):
        (node / file.name).write_bytes(file.read_bytes())
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    calls = tmp_path / "calls"
    calls.write_text("")
    write_stub(
        programs,
        "sudo",
        f"""[ "$1" != tee ] || cat >> "$CALLS"
[[ "$*" != *update ]] || [ "$(grep -c 'apt-get.*update$' "$CALLS")" -gt {failing_updates} ]""",
    )
    write_stub(programs, "sleep")
    write_stub(programs, "mountpoint", "exit 1")
    write_stub(programs, "nvidia-smi", f"exit {0 if gpu else 1}")
    write_stub(tmp_path / "melray-venv" / "bin", "python", f'[ "$1" != -c ] || {sys.executable} -I "$@"')
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "RAY_HEAD_IP": "10.0.0.7",
    }
    completed = subprocess.run(
        ["bash", str(node / script), *arguments],
        cwd=node,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert completed.returncode == 0, completed.stderr
    assert "secret" not in completed.stdout + completed.stderr + calls.read_text()
    return calls.read_text().splitlines()


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_packages_are_installed_in_the_tested_releases(tmp_path: Path, kind: str) -> None:
    calls = run_script(tmp_path, "packages.sh", kind, str(tmp_path / "melray-venv" / "bin" / "python"))
    installs = [call for call in calls if "pip install" in call]
    torch = f"torch=={PINS['torch']}"
    assert installs[0] == "python -m pip install " + (
        f"--no-deps --index-url https://download.pytorch.org/whl/cpu {torch}"
        if kind == "cpu"
        else f"--constraint constraints.txt {torch}"
    )
    assert installs[1:] == [
        "python -m pip install --constraint constraints.txt --requirement requirements.txt"
    ]
    assert (tmp_path / "melray" / "requirements.txt").read_text().split("\n")[:-1] == PROJECT["dependencies"]
    # The dashboard, which accepts jobs, is an optional dependency of Ray.
    assert any(re.match(r"ray\[.*\bdefault\b.*\]", requirement) for requirement in PROJECT["dependencies"])


def test_head_exports_its_disk(tmp_path: Path) -> None:
    (tmp_path / "melray").mkdir()
    (tmp_path / "melray" / "share").write_text("head\n")
    for _ in range(2):
        calls = run_script(tmp_path, "node.sh", "head", "boto3")
    assert "sudo exportfs -ra" in calls
    # The packages of Debian and Ubuntu do not contain this folder.
    assert calls.index("sudo mkdir -p /etc/exports.d") < calls.index("sudo tee /etc/exports.d/melray.exports")
    line = calls[calls.index("sudo tee /etc/exports.d/melray.exports") + 1]
    networks = [client.partition("(")[0] for client in line.removeprefix("/mnt/melray ").split()]
    assert networks == ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]  # the private ones of RFC 1918
    assert line.count("(rw,sync,no_subtree_check,all_squash,") == 3
    assert calls.index("python -m pip install boto3") > calls.index(
        "python -m pip install --constraint constraints.txt --requirement requirements.txt"
    )
    assert not any("mount -t" in call or "gcc" in call for call in calls)
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".bashrc").read_text().count("RAY_AUTH_MODE=token") == 1


@pytest.mark.parametrize(
    ("role", "share", "source"),
    [("worker", "head", "10.0.0.7:/mnt/melray"), ("worker", "fs:/", "fs:/"), ("head", "fs:/", "fs:/")],
)
def test_node_mounts_the_shared_folder(tmp_path: Path, role: str, share: str, source: str) -> None:
    (tmp_path / "melray").mkdir()
    (tmp_path / "melray" / "share").write_text(f"{share}\n")
    calls = run_script(tmp_path, "node.sh", role, gpu=True)
    assert f"sudo mount -t nfs4 {source} /mnt/melray" in calls
    assert any("chown" in call for call in calls) == (role == "head")
    assert not any("exportfs" in call for call in calls)
    # With a GPU, the CUDA build of torch is installed, and what torch.compile needs there.
    assert f"python -m pip install --constraint constraints.txt torch=={PINS['torch']}" in calls
    assert any(call.endswith("install gcc libc6-dev python3-dev") for call in calls)


def test_node_waits_for_the_lock_of_the_package_lists(tmp_path: Path) -> None:
    """apt does not wait for it, whatever DPkg::Lock::Timeout says; the system's own update holds it."""
    (tmp_path / "melray").mkdir()
    (tmp_path / "melray" / "share").write_text("fs:/\n")
    calls = run_script(tmp_path, "node.sh", "worker", failing_updates=2)
    steps = [call.split()[-1] for call in calls if "apt-get" in call or call.startswith("sleep ")]
    assert steps == ["update", "10", "update", "10", "update", "python3-venv"]


def test_documentation_names_existing_launch_files() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    paths = set(re.findall(r"cluster/launch/[\w.]+\w", text))
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    assert {
        f"cluster/launch/{name}" for name in (*DOCKER, *(f"{name}.yaml" for name in (*RAY_UP, *KUBE)))
    } <= paths
