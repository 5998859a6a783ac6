"""The subcommands of ``strata``, a module each: its name and help, its arguments (``add``) and its action (``act``).

A module imports what its command needs when that acts: help, and a word that was mistyped, need no torch.
"""
