"""When a server step happens, for tests to which it does not matter."""

from strata.engine.method.messages import Context, TeamInfo

AT = Context(1, 1, 0)
TEAM = TeamInfo(0, (0,), 1)
