import pytest


@pytest.fixture
def ray_here():
    """A local Ray of this test's own."""
    import ray

    from strata.engine.runtime import local_ray

    local_ray.start(1, 0)
    yield
    ray.shutdown()


def pytest_collection_modifyitems(items):
    """Every other warning stays an error."""
    advice = pytest.mark.filterwarnings(
        # Gymnasium's checker advises on learning: bounds of logits are neither [-1, 1] nor [0, 1].
        "ignore:.*we recommend using a symmetric and normalized space:UserWarning",
        # Nothing is rendered.
        "ignore:.*Not able to test alternative render modes:UserWarning",
        # RLlib registers one name for the environments of all its algorithms in a process.
        "ignore:.*Overriding environment rllib-multi-agent-env-v0:UserWarning",
    )
    for item in items:
        if (
            item.path.name in ("test_plain.py", "test_flat.py", "test_multi_agent.py")
            and item.path.parent.name == "envs"
        ):
            item.add_marker(advice)
