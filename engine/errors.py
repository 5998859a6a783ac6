"""Everything Strata raises on purpose, as one tree.

::

    StrataError                  what the user can mend; the command prints it without a traceback
    ├── ConfigError              a key, type or value of the configuration
    ├── DataError                a data set that is missing, malformed or impossible to partition
    ├── ResourceError            what was asked for does not fit the machine or the cluster
    │   └── SlowStartError       it fits, and actors did not start in time
    ├── ClusterError             a Ray cluster cannot be reached, or does not answer
    ├── CheckpointError          a checkpoint that is missing, damaged or of another run
    │   ├── OutdatedError        one of another version of Strata
    │   └── StateError           a state that no checkpoint could give back
    ├── LossError                a loss is not one value per sample
    ├── ConformanceError         a method does not do what the engine rests on
    ├── TopologyError            a method formed teams that are none
    ├── EmptyCohortError         an aggregation was asked for without a single participant
    ├── TrainingError            local training broke: a loss or a parameter is not finite
    ├── ActorDiedError           the process of a client or a server ended during a round
    │   └── ActorStartError      its own start raised something
    ├── ActionError              an agent's action lies outside its space, or nobody would follow a decision
    └── AgentCheckpointError     saved agents do not fit the run that wants them

A message says what was expected, what arrived, and what to do. Every error survives pickling, because it may be
raised inside an actor and caught in the driver.
"""


class StrataError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(StrataError):
    """A key, a type or a value of the configuration is wrong."""


class DataError(StrataError):
    """A data set is missing, malformed, or cannot be partitioned as asked."""


class ResourceError(StrataError):
    """The actors asked for do not fit the machine or the cluster."""


class SlowStartError(ResourceError):
    """Actors that fit the cluster did not start in time."""


class ClusterError(StrataError):
    """A Ray cluster cannot be reached, or does not answer in time."""


class CheckpointError(StrataError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class OutdatedError(CheckpointError):
    """A checkpoint is of another version of Strata."""


class StateError(CheckpointError):
    """A method's state holds what could not be restored from a checkpoint; saving again later does not help."""


class LossError(StrataError):
    """A method's loss is not one value per sample; the message says what arrived."""


class ConformanceError(StrataError):
    """A method does not do what the engine rests on; the message says what it did, and what to do."""


class TopologyError(StrataError):
    """A method put clients into teams that do not exist, into none, or into two."""


class EmptyCohortError(StrataError):
    """An aggregation was asked for without a single participant."""


class TrainingError(StrataError):
    """Local training broke; the message names client, team, round and step."""


class ActorDiedError(StrataError):
    """The process of a client or a server ended during a round."""


class ActorStartError(ActorDiedError):
    """What an actor is made of could not be made: to start it again would not help."""


class ActionError(StrataError):
    """An agent's action lies outside its action space, or a decision is for what does not take any."""


class AgentCheckpointError(StrataError):
    """Saved agents are missing, damaged, or were made for other spaces, another layout or another version."""


class StrataWarning(UserWarning):
    """Something the user should know, and may have meant."""
