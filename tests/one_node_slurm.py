"""A SLURM cluster that is this machine alone, while a test lasts. As root, with the daemons of Debian's slurm-wlm."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} Port={daemon} CPUs={cores}
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
"""Without munge, which signs what machines say to each other. What queues again waits for cred_expire, seconds."""


def missing() -> str | None:
    """Why there can be no cluster here."""
    absent = [name for name in ("slurmctld", "slurmd", "sbatch", "srun") if shutil.which(name) is None]
    if absent:
        return f"needs SLURM's {', '.join(absent)} (apt-get install slurm-wlm)"
    return "needs root, to start SLURM's daemons" if os.geteuid() != 0 else None


@contextlib.contextmanager
def one_node_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the environment in which sbatch, srun, scancel and so on speak to it."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host, cores = socket.gethostname(), len(os.sched_getaffinity(0))
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(host=host, controller=_free_port(), daemon=_free_port(), folder=folder, cores=cores)
    )
    environment = {**os.environ, "SLURM_CONF": str(config)}
    with contextlib.ExitStack() as daemons:
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D"]):
            process = subprocess.Popen([*command, "-f", config], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            daemons.callback(_end, process)
        until = time.monotonic() + 60
        while "idle" not in told("sinfo", "-h", "-o", "%t", env=environment):
            assert time.monotonic() < until, (folder / "slurmctld.log").read_text()
            time.sleep(0.2)
        yield environment


def told(*command: str, env: dict[str, str]) -> str:
    """What the command prints."""
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60).stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]
