"""Many smooth convex functions minimised at once, each by steps of its own. Knows no head.

L-BFGS (J. Nocedal, Updating quasi-Newton matrices with limited storage, 1980), which begins from a bound on each
coordinate's curvature.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_KEPT = 8
"""Steps that the curvature is learned from."""

_MOST_STEPS = 500

EXACT = 1e-12
"""A tolerance of the expected further decrease, for each example, that leaves weights exact to 1e-5."""

Loss = Callable[[Tensor], tuple[Tensor, Tensor]]


def minimize(loss: Loss, start: Tensor, curvature: Tensor, size: Tensor, tolerance: float = EXACT) -> Tensor:
    """Where each function is least, (*M, ...), from `start` on, of the same shape.

    `loss` gives the functions' values (*M) and gradients (*M, ...) at such a point; `curvature`, which broadcasts to
    the point, bounds each coordinate's second derivative. A function is done once the decrease that is left is expected
    to be below the tolerance times its `size` (*M), and stays there: each takes the steps that it would alone.
    """
    point = start
    flat = (*size.shape, -1)
    curvature = curvature.expand_as(start).reshape(flat)
    value, gradient = loss(point)
    gradient = gradient.reshape(flat)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    rounding = 8 * torch.finfo(start.dtype).eps
    for _ in range(_MOST_STEPS):
        running = (gradient.square() / curvature).sum(dim=-1) > tolerance * size
        if not running.any():
            break
        direction = -_times_inverse(gradient, curvature, steps)
        slope = (gradient * direction).sum(dim=-1)
        length = running.to(start.dtype)
        for _ in range(30):
            step = length[..., None] * direction
            tried = point + step.view_as(point)
            new_value, new_gradient = loss(tried)
            failed = running & ~(new_value <= value + 1e-4 * length * slope + rounding * value.abs())
            if not failed.any():
                break
            length = torch.where(failed, length / 2, length)
        new_gradient = new_gradient.reshape(flat)
        change = new_gradient - gradient
        curved = (step * change).sum(dim=-1)
        steps.append((step, change, torch.where(curved > 0, 1 / curved, 0.0)))
        del steps[:-_KEPT]
        point, value, gradient = tried, new_value, new_gradient
    return point


def _times_inverse(gradient: Tensor, curvature: Tensor, steps: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The gradient (*M, P) times the inverse of what the steps say of the second derivatives."""
    found, shares = gradient, []
    for step, change, inverse in reversed(steps):
        share = inverse * (step * found).sum(dim=-1)
        shares.append(share)
        found = found - share[..., None] * change
    found = found / curvature
    if steps:
        step, change, inverse = steps[-1]
        # the last step's curvature against the bound's along it; where a function stood still, the bound's
        against = (change.square() / curvature).sum(dim=-1)
        known = inverse > 0
        scale = torch.where(known, 1 / (inverse * against).clamp(min=torch.finfo(change.dtype).tiny), 1.0)
        found = found * scale[..., None]
    for (step, change, inverse), share in zip(steps, reversed(shares), strict=True):
        found = found + (share - inverse * (change * found).sum(dim=-1))[..., None] * step
    return found
