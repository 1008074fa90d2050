"""All measures of one method on one pair."""

from __future__ import annotations

from torch import Tensor

from training.evaluation.footage import Tools
from training.evaluation.motion import flow_error, motion_metrics
from training.evaluation.pictures import mean, mean_colour, picture_metrics
from training.evaluation.scene import Scene


def measure(scene: Scene, output: Tensor, tools: Tools) -> dict[str, float]:
    """Of an output (F, 3, H, W) uint8 of the portrait's size; against the truth only where there is one.

    colour_drift is against the truth's head, without a truth against the portrait's own.
    """
    metrics = {"flow_error": flow_error(output, scene.request.track, tools.head)}
    if scene.truth is not None:
        metrics |= picture_metrics(output, scene.truth, scene.head, counted=scene.counted)
    else:
        metrics["colour_drift"] = drift_from_portrait(scene, output)
    try:
        seen = tools.track(output, scene.driver.fps)
    except ValueError:  # no face in any frame
        seen = None
    return metrics | motion_metrics(seen, scene.request, tools.head)


def drift_from_portrait(scene: Scene, output: Tensor) -> float:
    """Mean difference, levels, between the head's mean colours in each frame and in the portrait, over frames
    and channels."""
    own = mean_colour(scene.portrait, scene.portrait_head[0, 0])
    return mean(
        [
            float((mean_colour(frame, where) - own).abs().mean())
            for frame, where in zip(output, scene.head[:, 0], strict=True)
        ]
    )
