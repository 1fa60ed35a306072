"""Programs of clusters and clouds that only write down how they were called, for the scripts of launch/."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

LAUNCH = Path(__file__).parents[1] / "launch"
PROGRAMS = (
    "jaxvision", "nvidia-smi", "srun", "sbatch", "scontrol", "scancel", "gcloud", "kubectl", "xpk", "ray", "docker",
    "sleep",
)  # fmt: skip
TOOLS = (
    "bash", "cat", "cut", "date", "dirname", "env", "false", "head", "mkdir", "mktemp", "od", "paste",
    "rm", "sed", "sh", "touch", "tr", "wc",
)  # fmt: skip
"""All else that the scripts may use of a system."""

STUB = r"""#!/bin/bash
name=${0##*/} folder=${0%/*}
line=$name
for word in "$@"; do line+=$'\x1f'$word; done
[ "$name" = nvidia-smi ] || printf '%s\n' "$line" >>"$folder/calls"
[ "$name" = kubectl ] && cat >"$folder/kubectl.stdin"
if [ -e "$folder/$name.body" ]; then source "$folder/$name.body"; fi
if [ -s "$folder/$name.codes" ]; then # a line for each call, the last for all that follow
  code=$(head -n 1 "$folder/$name.codes")
  [ "$(wc -l <"$folder/$name.codes")" -eq 1 ] || sed -i 1d "$folder/$name.codes"
  exit "$code"
fi
"""


@dataclass(frozen=True)
class Stubs:
    """A folder that is all of PATH, and a home."""

    folder: Path

    def says(self, program: str, body: str) -> None:
        """What the program does besides; bash, where "$@" are its arguments."""
        (self.folder / f"{program}.body").write_text(body)

    def ends(self, program: str, *codes: int) -> None:
        """The exit codes of its calls; the last one again and again."""
        (self.folder / f"{program}.codes").write_text("".join(f"{code}\n" for code in codes))

    def without(self, program: str) -> None:
        (self.folder / program).unlink()

    @property
    def calls(self) -> list[list[str]]:
        """Words of all calls so far, but for those that look up a name and those that wait."""
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        words = [line.split("\x1f") for line in lines]
        return [call for call in words if call[0] != "sleep" and call[-1] != "--help"]

    @property
    def environment(self) -> dict[str, str]:
        theirs = ("SLURM", "SBATCH", "CUDA", "JAXVISION_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        kept["JAXVISION_CACHE"] = os.environ.get("JAXVISION_CACHE", str(self.folder / "cache"))
        return {**kept, "PATH": f"{self.folder}", "HOME": str(self.folder)}

    def run(self, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """{folder} in a word is the stubs' own folder."""
        return subprocess.run(
            [LAUNCH / script, *(word.replace("{folder}", str(self.folder)) for word in words)],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )


def make_stubs(folder: Path) -> Stubs:
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name) or name)
    for name in PROGRAMS:
        (folder / name).write_text(STUB)
        (folder / name).chmod(0o755)
    stubs = Stubs(folder)
    stubs.ends("nvidia-smi", 9)  # no driver
    stubs.says("sbatch", "echo Submitted batch job 7")
    stubs.says("scontrol", '[ "$1 $2" != "show hostnames" ] || echo node1')
    return stubs


def wait_for(*files: Path, size: int = 0) -> None:
    """Until all of them are there, with so many bytes at least; a minute at most."""
    until = time.monotonic() + 60
    while not all(file.exists() and file.stat().st_size >= size for file in files):
        assert time.monotonic() < until, files
        time.sleep(0.02)
