"""Hidden states and logits of a whole sequence, apart, so that logits are computed only where they are wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class HiddenStates:
    """Calls a Hugging Face causal model in two halves where that is exact, else in one.

    Some architectures change logits after the unembedding (soft caps, scales). Whether the two halves give the model's
    own logits is tried once on a few tokens.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.body = getattr(model, model.base_model_prefix)
        self.head = model.get_output_embeddings()
        self._split = self._halves_agree()

    def __call__(self, tokens: Tensor) -> Tensor:
        """Hidden states [B, T, d] of tokens [B, T]; logits [B, T, V] where the model cannot be split."""
        return self.call({"input_ids": tokens, "use_cache": False})

    def call(self, arguments: dict[str, Any]) -> Tensor:
        """The same with any arguments of the Hugging Face model."""
        if not self._split:
            return self.model(**arguments).logits
        return self.body(**arguments).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """[.., V] of what the call above returned, or of any rows of it."""
        return self.head(hidden) if self._split else hidden

    def _halves_agree(self) -> bool:
        if self.head is None:
            return False
        tokens = torch.arange(3, device=self.model.device)[None]
        with torch.inference_mode():
            whole = self.model(input_ids=tokens, use_cache=False).logits
            halves = self.head(self.body(input_ids=tokens, use_cache=False).last_hidden_state)
        return whole.shape == halves.shape and torch.equal(whole, halves)
