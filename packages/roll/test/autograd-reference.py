"""Gradients of the published objectives by torch autograd, to compare with Σ w_t ∇log π for weights made elsewhere.

Written from the equations (arXiv 2512.24873, Eq. 6-9; GRPO, arXiv 2402.03300) and from nothing else, so that it shares no code
and no intermediate value with what it checks. Reads one JSON object a line, answers one JSON object a line:

  {"op": "policies", "seed", "dtype", "noiseOld", "noiseSampler", "trajectories": [{"chunks": [{"context", "tokens"}]}]}
    -> {"trajectories": [[{"logpTheta", "logpOld", "logpSampler"} per chunk]]}
  {"op": "gradient", "algorithm": {...}, "trajectories": [{"rFinal", "prefixLength", "sources", "group", "chunkReturns"}], "weights"}
    -> {"relativeError", "referenceNorm", "weightsNorm"}
"""

from __future__ import annotations

import json
import sys

import torch

VOCABULARY, WIDTH = 23, 12
torch.set_num_threads(1)


class Policy(torch.nn.Module):
    """A small causal language model: what came before is summarised by a decayed sum of embeddings."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding = torch.nn.Parameter(torch.randn(VOCABULARY, WIDTH, dtype=dtype))
        self.hidden = torch.nn.Parameter(torch.randn(WIDTH, WIDTH, dtype=dtype) / WIDTH**0.5)
        self.output = torch.nn.Parameter(torch.randn(WIDTH, VOCABULARY, dtype=dtype) / WIDTH**0.5)

    def logprobs(self, tokens: list[int]) -> torch.Tensor:
        """log π(token_t | earlier tokens) for every t, the first given an empty context; [T]."""
        state = torch.zeros(WIDTH, dtype=self.embedding.dtype)
        states = []
        for token in tokens:
            states.append(state)
            state = 0.7 * state + self.embedding[token]
        logits = torch.tanh(torch.stack(states) @ self.hidden) @ self.output
        return torch.log_softmax(logits, dim=-1)[torch.arange(len(tokens)), torch.tensor(tokens)]

    def neighbour(self, noise: float) -> Policy:
        other = Policy(self.embedding.dtype)
        with torch.no_grad():
            for mine, theirs in zip(self.parameters(), other.parameters(), strict=True):
                theirs.copy_(mine + noise * torch.randn_like(mine))
        return other


def by_chunk(policy: Policy, trajectory: dict) -> list[torch.Tensor]:
    tokens, spans = [], []
    for chunk in trajectory["chunks"]:
        tokens += chunk["context"]
        spans.append((len(tokens), len(tokens) + len(chunk["tokens"])))
        tokens += chunk["tokens"]
    logp = policy.logprobs(tokens)
    return [logp[start:end] for start, end in spans]


class Batch:
    """Three policies and the token sequences that both halves of a comparison look at."""

    def __init__(self, request: dict) -> None:
        torch.manual_seed(request["seed"])
        dtype = {"float32": torch.float32, "float64": torch.float64}[request["dtype"]]
        self.trajectories = request["trajectories"]
        self.theta = Policy(dtype)
        old = self.theta.neighbour(request["noiseOld"])
        sampler = old.neighbour(request["noiseSampler"])
        with torch.no_grad():
            self.old = [by_chunk(old, t) for t in self.trajectories]
            self.sampler = [by_chunk(sampler, t) for t in self.trajectories]

    def described(self) -> dict:
        with torch.no_grad():
            theta = [by_chunk(self.theta, t) for t in self.trajectories]
        names = ("logpTheta", "logpOld", "logpSampler")
        return {
            "trajectories": [
                [dict(zip(names, (part.tolist() for part in parts), strict=True)) for parts in zip(*three, strict=True)]
                for three in zip(theta, self.old, self.sampler, strict=True)
            ]
        }

    def gradient_of(self, objective: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(objective, list(self.theta.parameters()), materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    def from_weights(self, weights: list[list[list[float]]]) -> torch.Tensor:
        """∇ Σ w_t log π_θ(a_t)."""
        total = torch.zeros((), dtype=self.theta.embedding.dtype)
        for trajectory, chunk_weights in zip(self.trajectories, weights, strict=True):
            for logp, w in zip(by_chunk(self.theta, trajectory), chunk_weights, strict=True):
                total = total + (torch.tensor(w, dtype=logp.dtype) * logp).sum()
        return self.gradient_of(total)

    def from_objective(self, facts: list[dict], algorithm: dict) -> torch.Tensor:
        theta = [by_chunk(self.theta, t) for t in self.trajectories]
        terms, counts = [], {"trajectory": len(theta), "chunk": 0, "token": 0}
        for i, fact in enumerate(facts):
            own = [
                k for k, source in enumerate(fact["sources"]) if source == "policy" and k >= fact["prefixLength"]
            ]
            counts["chunk"] += len(own)
            counts["token"] += sum(len(theta[i][k]) for k in own)
            if own:
                series = (theta[i], self.old[i], self.sampler[i])
                terms.append(OBJECTIVES[algorithm["name"]](fact, facts, algorithm, own, *series))
        return self.gradient_of(torch.stack(terms).sum() / max(1, counts[algorithm["normaliser"]]))


def kept(mean_log_ratio: torch.Tensor, algorithm: dict) -> torch.Tensor:
    """Indicator of the mismatch ratio lying within its bounds."""
    ratio = mean_log_ratio.exp()
    return ((ratio <= algorithm["maskHigh"]) & (ratio >= algorithm["maskLow"])).to(ratio.dtype)


def reward(fact: dict, algorithm: dict) -> float:
    return algorithm["failReward"] if fact["rFinal"] == 0 else fact["rFinal"]


def ipa(fact, facts, algorithm, own, theta, old, sampler):
    """Eq. 9: Σ_c [ρ_c]_0^1 (failures only) G_c m_c Σ_t log π(c_t), with the return of Eq. 7 and the ratios of Eq. 8."""
    total = 0.0
    for k in own:
        discounted = algorithm["gamma"] ** (len(theta) - 1 - k) * reward(fact, algorithm)
        gain = discounted if fact["chunkReturns"] is None else fact["chunkReturns"][k]
        m = kept((old[k] - sampler[k]).mean(), algorithm)
        rho = torch.prod((theta[k] - old[k]).exp()).pow(1 / len(theta[k])).detach()
        factor = 1.0 if fact["rFinal"] > 0 else rho.clamp(0, 1)
        total = total + factor * gain * m * theta[k].sum()
    return total


def reinforce(fact, facts, algorithm, own, theta, old, sampler):
    """Eq. 6: the TOPR split with one geometric-mean ratio a trajectory and a mask a token."""
    log_ratio = torch.cat([theta[k] - old[k] for k in own])
    rho = torch.prod(log_ratio.exp()).pow(1 / len(log_ratio)).detach()
    factor = 1.0 if fact["rFinal"] > 0 else rho.clamp(0, 1)
    total = 0.0
    for k in own:
        gain = reward(fact, algorithm) if fact["chunkReturns"] is None else fact["chunkReturns"][k]
        total = total + factor * gain * (kept(old[k] - sampler[k], algorithm) * theta[k]).sum()
    return total


def grpo(fact, facts, algorithm, own, theta, old, sampler):
    """Σ_t min(r_t A, clip(r_t) A), differentiated through r_t = π/π_old; the mask of Eq. 6 on top."""
    dtype = theta[0].dtype
    rewards = torch.tensor([other["rFinal"] for other in facts if other["group"] == fact["group"]], dtype=torch.float64)
    advantage = fact["rFinal"] - rewards.mean()
    if algorithm["divideByStd"]:
        advantage = advantage / (rewards.std(correction=0) + 1e-6)
    advantage = advantage.to(dtype)
    total = 0.0
    for k in own:
        r = (theta[k] - old[k]).exp()
        clipped = r.clamp(1 - algorithm["clipLow"], 1 + algorithm["clipHigh"])
        surrogate = torch.minimum(r * advantage, clipped * advantage)
        total = total + (kept(old[k] - sampler[k], algorithm) * surrogate).sum()
    return total


def raft(fact, facts, algorithm, own, theta, old, sampler):
    """Log-likelihood of the successes."""
    on = 1.0 if fact["rFinal"] > 0 else 0.0
    return sum(on * (kept(old[k] - sampler[k], algorithm) * theta[k]).sum() for k in own)


OBJECTIVES = {"ipa": ipa, "reinforce": reinforce, "grpo": grpo, "raft": raft}


def main() -> None:
    batch: Batch | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "policies":
            batch = Batch(request)
            answer = batch.described()
        else:
            assert batch is not None, "policies come first"
            reference = batch.from_objective(request["trajectories"], request["algorithm"])
            candidate = batch.from_weights(request["weights"])
            norm = reference.norm()
            error = (candidate - reference).norm() / norm if norm > 0 else candidate.norm()
            answer = {
                "relativeError": error.item(),
                "referenceNorm": norm.item(),
                "weightsNorm": candidate.norm().item(),
            }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
