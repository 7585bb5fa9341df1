"""The protobuf form of requests and results (package tinker_public)."""

from __future__ import annotations

from typing import Any

from .errors import UserError


def is_encodable(value: Any) -> bool:
    return False


def encode_result(value: Any) -> bytes:
    raise UserError("protobuf results are not supported")


def parse_loss_message(raw: bytes) -> Any:
    raise UserError("protobuf requests are not supported")
