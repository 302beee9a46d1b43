"""The sweep benchmark's tasks as plain PyTorch loops; `torch` is None where it is not installed."""

from typing import Any

import numpy as np

try:
    import torch as _torch
except ImportError:
    _torch = None

torch: Any = _torch

__all__ = ["logistic", "mlp", "rosenbrock", "torch"]


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


def rosenbrock(rate: float, seed: int) -> None:
    """W1."""
    torch.set_num_threads(1)
    x = (torch.rand(2, generator=torch.Generator().manual_seed(seed)) * 4 - 2).requires_grad_()
    loss = lambda _: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2  # noqa: E731
    _train(torch.optim.Adam([x], lr=rate), loss, range(2000))


def logistic(data: Any, rate: float, seed: int) -> None:
    """W2."""
    torch.set_num_threads(1)
    weights = (0.01 * torch.randn(30, generator=torch.Generator().manual_seed(seed))).requires_grad_()
    bias = torch.zeros((), requires_grad=True)

    def loss(batch):
        features, targets = batch
        return torch.nn.functional.softplus(-(features @ weights + bias) * (2.0 * targets - 1.0)).mean()

    _train(torch.optim.SGD([weights, bias], lr=rate), loss, _batches(data, seed, 500, 64))


def mlp(data: Any, rate: float, seed: int) -> None:
    """W3."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    parameters = list(net.parameters())
    loss = lambda batch: torch.nn.functional.cross_entropy(net(batch[0]), batch[1])  # noqa: E731
    _train(torch.optim.Adam(parameters, lr=rate), loss, _batches(data, seed, 280, 64))
