"""Adam against PyTorch's class."""

from __future__ import annotations

import copy
import subprocess
import sys

import torch
from torch import nn

from stages.head.training.adam import Adam


def test_steps_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Linear(3, 3))
    theirs = copy.deepcopy(ours)
    here, there = Adam(ours.parameters(), 0.01), torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    for step in range(6):
        x = torch.randn(8, 5)
        here.rate = there.param_groups[0]["lr"] = 0.01 * 0.9**step
        for network, optimizer in ((ours, here), (theirs, there)):
            optimizer.zero_grad()
            network[: 3 if step % 2 else 4](x).square().sum().backward()  # the last layer has a gradient now and then
            optimizer.step()
        if step == 2:  # a training that is taken up again
            state = copy.deepcopy(here.state_dict())
            here = Adam(ours.parameters(), 0.01)
            here.load_state_dict(state)
        for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, reference, atol=0, rtol=0)


def test_weight_decay_is_that_of_adamw_on_matrices() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    theirs = copy.deepcopy(ours)
    groups = [
        {
            "params": [weight for weight in theirs.parameters() if (weight.dim() > 1) == decays],
            "weight_decay": 2.0 * decays,
        }
        for decays in (True, False)
    ]
    here, there = Adam(ours.parameters(), 0.01, weight_decay=2.0), torch.optim.AdamW(groups, lr=0.01)
    for _ in range(20):
        x = torch.randn(8, 5)
        for network, optimizer in ((ours, here), (theirs, there)):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-6, rtol=1e-5)


def test_no_compiler_is_imported() -> None:
    code = (
        "import sys, torch; from stages.head.training.adam import Adam; w = torch.nn.Parameter(torch.ones(3)); "
        "a = Adam([w], 0.1); w.grad = torch.ones(3); a.step(); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
