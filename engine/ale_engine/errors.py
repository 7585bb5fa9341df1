"""The two ways a call can fail: the caller's fault or ours. HTTP status and wire form are decided in one place each."""

from __future__ import annotations


class EngineError(Exception):
    """A failure that a person can act on. `category` is the Tinker error category, `status` the HTTP status."""

    category = "server"
    status = 500


class UserError(EngineError):
    """The request cannot be carried out as it is: 400."""

    category = "user"
    status = 400


class NotFoundError(UserError):
    """The thing named by the request does not exist (any more): 404."""

    status = 404
