"""All benchmarks, one after the other: ``make bench``."""

import os

from tests.bench import engine_costs, population, throughput

os.environ["PYTHONWARNINGS"] = "ignore"
throughput.main([])
engine_costs.main()
population.main([])
