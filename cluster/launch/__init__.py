"""Files that start a run elsewhere: on Slurm, on Kubernetes, by Ray's cluster launcher, in a container."""
