"""The same work in other simulators, each in a Python environment of its own, beside Strata's in one run.

Such an environment holds the peer (pfl-research 0.6: ``pip install pfl torch scipy``; Flower 1.42: ``pip install
"flwr[simulation]" torch``) and what Strata's models need (``pip install cachetools pydantic pyyaml``).
"""
