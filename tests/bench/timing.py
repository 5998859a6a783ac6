"""The timing environment: ``python -m tests.bench.timing``.

Gymnasium's environment of HAPFL as it ships (100 clients, ten a round, two agents, each round two steps), in this
process, on one thread, in seconds of its own, so that what else the machine does matters less. Actions are drawn
beforehand: what is measured is the environment, ``reset`` and ``step``, with invitation, probes,
observations, decisions, the round itself and rewards.

* warm-up: from making the environment until it has played 100 rounds, in a process that has imported it and counted no
  FLOPs before;
* after it: rounds a second, over several stretches of 1,000 rounds.
"""

import statistics
import time
from collections.abc import Iterator
from itertools import cycle

import torch

from strata.engine.method.control import Actions
from strata.envs.plain import FederatedRounds

FIRST, STRETCH, STRETCHES, DRAWN = 100, 1000, 8, 997
WINDOW = 50


def played(env: FederatedRounds, actions: Iterator[Actions], rounds: int) -> float:
    """Seconds of this process that so many rounds take, in windows of :data:`WINDOW`."""
    began = time.process_time()
    done = 0
    while done < rounds:
        env.reset()
        over = False
        while not over:
            _, _, _, over, info = env.step(next(actions))
            done += "round_s" in info
    return time.process_time() - began


def main() -> None:
    """Print what the warm-up takes, and how many rounds a second are played after it."""
    torch.set_num_threads(1)
    began = time.process_time()
    env = FederatedRounds(method="hapfl", fidelity="timing", rounds=WINDOW)
    made_s = time.process_time() - began
    env.action_space.seed(0)
    actions = cycle([env.action_space.sample() for _ in range(DRAWN)])
    first_s = played(env, actions, FIRST)
    print(f"made in {made_s:.2f} s, the first {FIRST} rounds in {first_s:.2f} s: {made_s + first_s:.2f} s", flush=True)
    rates = [STRETCH / played(env, actions, STRETCH) for _ in range(STRETCHES)]
    print(f"then, by stretches of {STRETCH:,} rounds: {', '.join(f'{rate:,.0f}' for rate in rates)} rounds/s")
    print(f"median of the last {STRETCHES // 2}: {statistics.median(rates[STRETCHES // 2 :]):,.0f} rounds/s")
    env.close()


if __name__ == "__main__":
    main()
