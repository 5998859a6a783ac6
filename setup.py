"""What pyproject.toml cannot say: the folders of this repository are installed below one name, ``strata``."""

from setuptools import find_packages, setup

ROOMS = ("engine", "algorithms", "agents", "envs", "cluster")
FACADE = "cluster.api"

found = [name for name in find_packages() if name.split(".")[0] in ROOMS and name != FACADE]
setup(
    packages=["strata", *(f"strata.{name}" for name in found)],
    package_dir={"strata": FACADE.replace(".", "/"), **{f"strata.{room}": room for room in ROOMS}},
)
