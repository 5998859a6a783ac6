"""All benchmarks, one after the other: ``make bench``."""

import os

import torch

from tests.bench import asynchronous, engine_costs, gpu, population, throughput, timing

os.environ["PYTHONWARNINGS"] = "ignore"
throughput.main([])
asynchronous.main()
if torch.cuda.is_available():
    gpu.main([])
engine_costs.main()
timing.main()
population.main([])
