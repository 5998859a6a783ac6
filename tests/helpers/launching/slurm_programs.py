"""Stands for Slurm: `srun` starts its tasks on this machine, `scontrol` names nodes and notes what it is asked for."""

import os
import subprocess
import sys
from pathlib import Path

SCONTROL = """#!/bin/bash
echo "scontrol $*" >> "$STUB_LOG"
if [[ $1 == show ]]; then printf 'node%d\\n' $(seq "$STUB_NODES"); fi
"""

SRUN = """#!/bin/bash
echo "srun $*" >> "$STUB_LOG"
count=1
while [[ $1 == --* ]]; do
  if [[ $1 == --ntasks=* ]]; then count=${1#*=}; fi
  shift
done
tasks=()
trap 'kill "${tasks[@]}" 2>/dev/null' TERM  # as srun, which hands signals on
nodes() { ls "/tmp/ray-$SLURM_JOB_ID/session_latest/sockets" 2>/dev/null | grep -c '^raylet'; }
for ((i = 0; i < count; i++)); do
  # Nodes of one machine share this folder, and two that start at a time would take one name in it.
  while [[ -n ${STUB_ONE_BY_ONE:-} && "$*" == "ray start --address"* ]] && (($(nodes) < i + 1)); do sleep 0.1; done
  "$@" &
  tasks+=($!)
done
code=0
for task in "${tasks[@]}"; do wait "$task" || code=$?; done
wait
exit "$code"
"""


class Slurm:
    """A folder with both programs, and a job that lives in it."""

    def __init__(self, folder, nodes, job):
        self.folder, self.job, self.log = Path(folder), job, Path(folder) / "asked.log"
        self.work = self.folder / "work"
        programs = self.folder / "programs"
        programs.mkdir()
        for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.log.touch()
        self._started = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "STUB_LOG": str(self.log),
            "STUB_NODES": str(nodes),
            "SLURM_JOB_ID": str(job),
            "SLURM_JOB_NAME": "strata-test",
            "SLURM_JOB_NODELIST": f"node[1-{nodes}]",
            "STRATA_WORK": str(self.work),
            "STRATA_ADDRESS": "127.0.0.1",
        }

    def environment_with(self, **programs):
        """A folder like a virtual environment's with these programs (bash), and this Python; gives its path."""
        folder = self.folder / "venv" / "bin"
        folder.mkdir(parents=True)
        for name, text in programs.items():
            (folder / name).write_text(f"#!/bin/bash\n{text}\n")
            (folder / name).chmod(0o755)
        (folder / "python").symlink_to(sys.executable)
        return folder.parent

    def start(self, script, **environment):
        whole, pipe = {**self.environment, **environment}, subprocess.PIPE
        where = {"cwd": self.folder, "text": True}
        self._started.append(
            subprocess.Popen(["bash", script], env=whole, stdout=pipe, stderr=subprocess.STDOUT, **where)
        )
        return self._started[-1]

    def close(self):
        """End what a failed test left, as a cancelled job would be."""
        for job in self._started:
            if job.poll() is None:
                job.terminate()
                job.communicate(timeout=60)

    def asked(self):
        return self.log.read_text().splitlines()
