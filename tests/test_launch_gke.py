"""What launch/ sends to clouds: manifests against their schemas, a slice's life, what the image is made of."""

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from launch_stubs import LAUNCH, Stubs, make_stubs

SCHEMAS = json.loads((Path(__file__).parent / "launch_schemas.json").read_text())
IMAGE = "europe-docker.pkg.dev/project/repository/jaxvision:1"
XPK = [
    "train",
    "mnist",
    "--cluster",
    "c",
    "--zone",
    "us-east1-d",
    "--project",
    "p",
    "--image",
    IMAGE,
    "--run-dir",
    "gs://bucket/mnist",
]
RAY = ["ablate", "mnist-parts", "--image", IMAGE, "--claim", "shared", "--run-dir", "/runs/parts"]
TPU = ["train", "mnist", "--tpu", "slice", "--image", IMAGE, "--run-dir", "gs://bucket/mnist"]


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    return make_stubs(tmp_path)


def checked(text: str) -> dict[str, Any]:
    manifest = yaml.safe_load(text)
    jsonschema.validate(manifest, {"$ref": f"#/$defs/{manifest['kind']}", "$defs": SCHEMAS["$defs"]})
    return manifest


@pytest.mark.parametrize(
    ("words", "limits", "selector", "trial"),
    [
        (
            ["--accelerator", "nvidia-l4", "--nodes", "4", "--devices", "2", "--cpus", "8", "--spot"],
            {"cpu": 8, "memory": "16Gi", "nvidia.com/gpu": 2},
            {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-spot": "true"},
            ["--gpus-per-trial", "1"],
        ),
        (
            ["--accelerator", "tpu-v5-lite-podslice", "--topology", "2x2", "--nodes", "4",
             "--memory", "32Gi"],
            {"cpu": 4, "memory": "32Gi", "google.com/tpu": 4},
            {
                "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
                "cloud.google.com/gke-tpu-topology": "2x2",
            },
            ["--tpus-per-trial", "1"],
        ),
    ],
)  # fmt: skip
def test_a_sweep_s_manifest(stubs: Stubs, words: list[str], limits: dict, selector: dict, trial: list[str]):
    done = stubs.run("gke.sh", *RAY, *words, "--max-restarts", "5", "--", "--seeds", "2", "--data.limit-train", "500")
    assert done.returncode == 0, done.stderr
    assert stubs.calls == [["kubectl", "apply", "--filename", "-"]]
    text = (stubs.folder / "kubectl.stdin").read_text()
    manifest = checked(text)
    assert "$" not in text
    assert manifest["metadata"]["name"] == "mnist-parts"
    assert manifest["spec"]["backoffLimit"] == 5
    assert manifest["spec"]["shutdownAfterJobFinishes"]
    given = ["--out", "/runs/parts", "--seeds", "2", "--data.limit-train", "500"]
    command = ["jaxvision", "ablate", "mnist-parts", "--engine", "ray", "--address", "auto", *trial, *given]
    assert shlex.split(manifest["spec"]["entrypoint"]) == command
    cluster = manifest["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}\n" in (LAUNCH.parent / "constraints.txt").read_text()
    [workers] = cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 4
    assert workers["template"]["spec"]["nodeSelector"] == selector
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"] == limits
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        assert pod["containers"][0]["image"] == IMAGE
        assert pod["restartPolicy"] == "Never"  # the operator makes another pod
        assert pod["volumes"] == [{"name": "runs", "persistentVolumeClaim": {"claimName": "shared"}}]
        assert pod["containers"][0]["volumeMounts"] == [{"name": "runs", "mountPath": "/runs"}]


def test_xpk_is_told_how_processes_find_each_other_and_when_to_restart(stubs: Stubs):
    assert stubs.run("gke.sh", *XPK, "--device-type", "v5litepod-16", "--nodes", "2").returncode == 0
    assert stubs.run("gke.sh", *XPK, "--device-type", "h100-80gb-8", "--nodes", "2", "--spot").returncode == 0
    tpu, gpu = (dict(itertools.pairwise(call)) for call in stubs.calls)
    assert (tpu["--num-slices"], gpu["--num-nodes"]) == ("2", "2")
    run = "exec jaxvision train mnist --run-dir gs://bucket/mnist --resume --distributed"
    assert tpu["--command"] == f"{run} auto"
    assert gpu["--command"] == (
        f"{run} $JAX_COORDINATOR_ADDRESS:$JAX_COORDINATOR_PORT --num-processes $NNODES --process-id $NODE_RANK"
    )
    for call in (tpu, gpu):
        assert (call["--docker-image"], call["--max-restarts"], call["--restart-on-exit-codes"]) == (IMAGE, "10", "1")
    assert "--spot" in stubs.calls[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "resource", "count", "pods"),
    [("v5litepod-16", "google.com/tpu", 4, 4), ("h100-80gb-8", "nvidia.com/gpu", 8, 2)],
)
def test_the_jobset_that_xpk_makes(stubs: Stubs, device: str, resource: str, count: int, pods: int):
    xpk = shutil.which("xpk")
    if xpk is None:
        pytest.skip("xpk is not on PATH (pip install xpk, in an environment of its own: it pins much)")
    stubs.says("xpk", f'exec {xpk} "$@"')
    done = stubs.run("gke.sh", *XPK, "--device-type", device, "--nodes", "2", "--dry-run", "--", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    manifest = checked(done.stdout.partition("\n")[2])
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 10
    [jobs] = manifest["spec"]["replicatedJobs"]
    job = jobs["template"]["spec"]
    assert job["parallelism"] == job["completions"] == pods
    [rule] = job["podFailurePolicy"]["rules"]
    ends = rule["onExitCodes"]
    # Fails for good with 2, refused; is started again after 1, another host is gone, 137, killed, and 143, saved.
    assert (rule["action"], ends["operator"]) == ("FailJob", "NotIn")
    assert {1, 137, 143} <= set(ends["values"])
    assert 2 not in ends["values"]
    assert policy["rules"][0]["action"] == "FailJobSet"
    pod = job["template"]["spec"]
    container = pod["containers"][0]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 120)
    assert container["image"] == IMAGE
    assert container["resources"]["limits"][resource] == count
    script = container["command"][-1]
    assert "exec jaxvision train mnist --run-dir gs://bucket/mnist --resume --epochs 3" in " ".join(script.split())
    names = {variable["name"] for variable in container["env"] or []}
    assert set(re.findall(r"\$([A-Z_]{4,})", script)) - {"EXIT_CODE"} <= names


def test_a_slice_is_used_made_and_made_again_after_a_preemption(stubs: Stubs):
    made = [*TPU, "--accelerator-type", "v5litepod-16", "--runtime-version", "v2-alpha-tpuv5-lite", "--spot"]
    # There is none; it is made; training ends with 255 as it is preempted; it is made again, and the run ends.
    stubs.says(
        "gcloud",
        'case $4 in describe) cat "$folder/state" 2>/dev/null || { echo "NOT_FOUND: x" >&2; exit 1; }; exit ;;\n'
        'create) echo READY >"$folder/state"; exit ;;\n'
        'ssh) [ -e "$folder/once" ] || { touch "$folder/once"; echo PREEMPTED >"$folder/state"; exit 255; } ;; esac',
    )
    done = stubs.run("tpu-vm.sh", *made)
    assert done.returncode == 0, done.stderr
    verbs = [call[4] for call in stubs.calls if call[4] != "describe"]
    assert verbs == ["create", "ssh", "delete", "create", "ssh"]
    assert "gcloud compute tpus tpu-vm delete slice --quiet" in done.stderr  # what it takes to stop paying
    ssh = next(call for call in stubs.calls if call[4] == "ssh")
    assert ssh[5:8] == ["slice", "--worker=all", "--command"]
    remote = ssh[-1]
    assert f"{IMAGE} train mnist --run-dir gs://bucket/mnist --resume --distributed auto" in remote
    assert remote.index("docker stop --time 120") < remote.index("docker run")


def test_a_slice_that_is_not_there_is_refused_and_a_refusal_is_not_repeated(stubs: Stubs):
    done = stubs.run("tpu-vm.sh", *TPU)
    assert (done.returncode, done.stderr.splitlines()[0][:14]) == (2, "error: --tpu: ")
    assert [call[4] for call in stubs.calls] == ["describe"]
    for told, code in (("echo STOPPED", 0), ("echo CREATING", 0), ("echo 'ERROR: log in first' >&2", 1)):
        stubs.says("gcloud", f'[ "$4" != describe ] || {{ {told}; exit {code}; }}')
        done = stubs.run("tpu-vm.sh", *TPU, "--accelerator-type", "v6e-8", "--runtime-version", "v2-alpha-tpuv6e")
        assert done.returncode == 2
        assert told.split()[-1].rstrip("'") in done.stderr or "log in first" in done.stderr
    assert {call[4] for call in stubs.calls} == {"describe"}  # nothing of the user's is deleted
    stubs.says("gcloud", '[ "$4" != describe ] || { echo READY; exit; }')
    stubs.ends("gcloud", 2)
    assert stubs.run("tpu-vm.sh", *TPU).returncode == 2
    stubs.ends("gcloud", 143, 1, 2)
    assert stubs.run("tpu-vm.sh", *TPU).returncode == 2
    assert sum(call[4] == "ssh" for call in stubs.calls) == 4


def test_the_image_has_what_the_scripts_and_manifests_take_for_granted():
    text = (LAUNCH / "Dockerfile").read_text()
    steps = re.findall(r"^(FROM|RUN|COPY|USER|ENTRYPOINT|ARG) ((?:.*\\\n)*.*)", text, re.MULTILINE)
    assert ("ENTRYPOINT", '["jaxvision"]') in steps
    # runAsUser of the manifest; a number, which Kubernetes can tell from root
    assert {("ARG", "RUN_AS=1000"), ("USER", "$RUN_AS")} <= set(steps)
    assert "runAsUser: 1000" in (LAUNCH / "rayjob.yaml").read_text()
    installs = [what for step, what in steps if step == "RUN" and "pip install" in what]
    assert "-c constraints.txt" in installs[0]
    assert "${ACCELERATOR},sweep" in installs[0]
    copied = {name for step, what in steps if step == "COPY" for name in what.split()[:-1]}
    assert all((LAUNCH.parent / name).exists() for name in copied)
    sent = {line[1:] for line in (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == copied
