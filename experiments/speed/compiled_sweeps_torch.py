"""The sweep benchmark's tasks in PyTorch: plain loops, and all runs at once by ``torch.func``.

Without PyTorch the module can be imported all the same, and its functions cannot be called.
"""

from typing import Any

import numpy as np

try:
    import torch as _torch
except ImportError:
    _torch = None

torch: Any = _torch

__all__ = ["logistic", "mapped", "mlp", "rosenbrock"]


def _train(optimizer: Any, loss: Any, batches: Any) -> None:
    for batch in batches:
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()


def _batches(data: Any, seed: int, steps: int, size: int):
    """Mini-batches by epochs, as tensors."""
    features = torch.tensor(np.asarray(data.features))
    targets = torch.tensor(np.asarray(data.targets)).long()
    generator = torch.Generator().manual_seed(seed)
    done, n = 0, len(features)
    while done < steps:
        order = torch.randperm(n, generator=generator)
        for i in range(min(n // size, steps - done)):
            rows = order[i * size : (i + 1) * size]
            yield features[rows], targets[rows]
            done += 1


def _rosenbrock(params, features, targets):
    del features, targets
    (x,) = params
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def _logistic(params, features, targets):
    weights, bias = params
    return torch.nn.functional.softplus(-(features @ weights + bias) * (2.0 * targets - 1.0)).mean()


def rosenbrock(rate: float, seed: int) -> None:
    """W1."""
    torch.set_num_threads(1)
    x = (torch.rand(2, generator=torch.Generator().manual_seed(seed)) * 4 - 2).requires_grad_()
    _train(torch.optim.Adam([x], lr=rate), lambda _: _rosenbrock([x], None, None), range(2000))


def logistic(data: Any, rate: float, seed: int) -> None:
    """W2."""
    torch.set_num_threads(1)
    weights = (0.01 * torch.randn(30, generator=torch.Generator().manual_seed(seed))).requires_grad_()
    bias = torch.zeros((), requires_grad=True)
    params = [weights, bias]
    _train(
        torch.optim.SGD(params, lr=rate),
        lambda batch: _logistic(params, *batch),
        _batches(data, seed, 500, 64),
    )


def mlp(data: Any, rate: float, seed: int) -> None:
    """W3."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    parameters = list(net.parameters())
    loss = lambda batch: torch.nn.functional.cross_entropy(net(batch[0]), batch[1])  # noqa: E731
    _train(torch.optim.Adam(parameters, lr=rate), loss, _batches(data, seed, 280, 64))


def _mlp(params, features, targets):
    w1, b1, w2, b2 = params
    logits = torch.relu(features @ w1 + b1) @ w2 + b2
    return torch.nn.functional.cross_entropy(logits, targets)


def _starts(name: str, generator: Any) -> list[Any]:
    """One run's params."""
    if name == "w1":
        return [torch.rand(2, generator=generator) * 4 - 2]
    if name == "w2":
        return [0.01 * torch.randn(30, generator=generator), torch.zeros(())]
    first, second = (torch.randn(*shape, generator=generator) for shape in ((64, 32), (32, 10)))
    return [first / 8, torch.zeros(32), second / 32**0.5, torch.zeros(10)]


def _adam(params, grads, moments, rates, count):
    """One step of Adam, as `torch.optim.Adam` makes it."""
    for p, g, (m, v) in zip(params, grads, moments, strict=True):
        m.mul_(0.9).add_(g, alpha=0.1)
        v.mul_(0.999).addcmul_(g, g, value=0.001)
        size = (v / (1 - 0.999**count)).sqrt_().add_(1e-8)
        p.sub_(rates.view(-1, *[1] * (p.ndim - 1)) * (m / (1 - 0.9**count)) / size)


def mapped(name: str, data: Any, rates: np.ndarray, seeds: np.ndarray, steps: int) -> Any:
    """All runs at once by ``torch.func.vmap`` of ``torch.func.grad``; rates and seeds are one a run."""
    torch.set_num_threads(1)
    loss = {"w1": _rosenbrock, "w2": _logistic, "w3": _mlp}[name]
    gradient = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None if data is None else 0, 0))
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    params = [torch.stack(leaves) for leaves in zip(*(_starts(name, g) for g in generators), strict=True)]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]
    speed = torch.tensor(rates)
    draws = None if data is None else [_batches(data, int(seed), steps, 64) for seed in seeds]
    for count in range(1, steps + 1):
        features, targets = None, speed
        if draws is not None:
            features, targets = (torch.stack(part) for part in zip(*map(next, draws), strict=True))
        grads = gradient(params, features, targets)
        if name == "w2":
            for p, g in zip(params, grads, strict=True):
                p.sub_(speed.view(-1, *[1] * (p.ndim - 1)) * g)
        else:
            _adam(params, grads, moments, speed, count)
    return params
