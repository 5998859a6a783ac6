"""Make the golden digests of this machine's arithmetic anew, and print what changed: ``python -m tests.golden``.

``python -m tests.golden fedavg permfl`` does so for these methods alone.
"""

import sys

from tests.golden.runs import arithmetic, config_of, names, play, read, write


def main(methods: list[str]) -> None:
    """Run, compare, write."""
    digests, here = read(), arithmetic()
    if here not in digests:
        print(f"arithmetic {here}: not in the file yet")
    kept = digests.setdefault(here, {})
    for method in methods or names():
        made, before = play(config_of(method, "in-process")), kept.get(method)
        changed = [name for name in made if before is None or before.get(name) != made[name]]
        print(f"{method}: {'new' if before is None else 'changed: ' + ', '.join(changed) if changed else 'unchanged'}")
        kept[method] = made
    for method in set(kept) - set(names()):
        print(f"{method}: gone")
        del kept[method]
    write(digests)


main(sys.argv[1:])
