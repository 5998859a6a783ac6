"""What differential privacy the noise in clients' changes gives, by the accountant of Google's ``dp-accounting``.

Symbols
    S, σ    clip norm; noise multiplier
    N, n    clients that may be called; those that are called per round

Neighbours differ in all data of one client (replace one), so a sum of changes of length ≤ S moves by 2S at most. With
``at=server`` the sum of a cohort's changes has noise of deviation σS, and n clients are drawn of N without replacement:
each round is a Gaussian mechanism at the multiplier σ/2, sampled without replacement (Wang, Balle and Kasiviswanathan,
arXiv 1808.00087). It is of the models that the server makes of means in which uploads count alike, and trusts the
server. With ``at=client`` every upload is such a mechanism by itself, whoever reads it; who is drawn hides nothing, and
a client is reckoned to be called in every round.
"""

from dataclasses import dataclass
from functools import lru_cache

from strata.engine.errors import ConfigError

PRIVACY = "privacy/"
"""How the names of what is said of privacy begin, among the metrics of a round."""

EPSILON, DELTA = f"{PRIVACY}epsilon", f"{PRIVACY}delta"
"""Metrics of a round that is evaluated: ε of all rounds so far, and at which δ."""

ORDERS = (1.25, 1.5, 1.75, *range(2, 33), 40, 48, 64, 96, 128, 256)
"""Orders of Rényi divergence: fewer than the library's own, for a third of its time."""


@dataclass(frozen=True)
class Privacy:
    """What ε is said of a run.

    Attributes:
        multiplier: σ.
        delta: δ.
        clients, cohort: N and n; the cohort counts with a server's noise alone.
        at_server: where the noise is added.
        exchanges: rounds of a client per global round: those of its team, or one.
        none: why no ε is given; empty where one is.
    """

    multiplier: float
    delta: float
    clients: int
    cohort: int
    at_server: bool
    exchanges: int = 1
    none: str = ""

    def epsilon(self, rounds: int) -> float | None:
        """ε after so many global rounds; None where none is given.

        Raises:
            ConfigError: when the accountant is not installed.
        """
        if self.none:
            return None
        sampled = self.cohort if self.at_server and self.cohort < self.clients else 0
        return _epsilon(self.multiplier, self.delta, self.clients, sampled, rounds * self.exchanges)

    def metrics(self, rounds: int) -> dict[str, float]:
        """ε after so many global rounds and its δ, as numbers for curves; empty where none is given."""
        epsilon = self.epsilon(rounds)
        return {} if epsilon is None else {EPSILON: epsilon, DELTA: self.delta}

    def told(self, rounds: int) -> str:
        """What is to be known of ε before a run of so many rounds, in a line."""
        if self.none:
            return f"transport.noise: no ε is given: {self.none}"
        what = (
            f"of the server's models, for all data of one client, {self.cohort} of {self.clients} drawn without "
            "replacement per round, whose uploads count alike; the server is trusted"
            if self.at_server
            else "of what each client sends, for all its data, whoever reads it, as if it were called in every round"
        )
        after = f"{self.epsilon(rounds):.3g} at δ = {self.delta:.3g} after {rounds} rounds"
        return f"transport.noise: ε = {after}, {what}"


def require_accountant() -> None:
    """Refuse noise where nobody can say what it is good for.

    Raises:
        ConfigError: saying what to install.
    """
    try:
        import dp_accounting  # noqa: F401  # it takes seconds, and only runs with noise need it
    except ImportError:
        raise ConfigError(
            "transport.up: noise needs the accountant dp-accounting, which says its ε, and is not installed: "
            'pip install "strata-fl[dp]".'
        ) from None


@lru_cache(maxsize=4096)
def _epsilon(multiplier: float, delta: float, clients: int, sampled: int, times: int) -> float:
    """ε of ``times`` Gaussian mechanisms, each over ``sampled`` of the clients; 0: over all of them."""
    require_accountant()
    import dp_accounting

    event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(multiplier / 2)
    if sampled:
        event = dp_accounting.SampledWithoutReplacementDpEvent(clients, sampled, event)
    accountant = dp_accounting.rdp.RdpAccountant(ORDERS, dp_accounting.NeighboringRelation.REPLACE_ONE)
    return float(accountant.compose(event, times).get_epsilon(delta))
