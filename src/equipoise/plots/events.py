"""A run's metrics as TensorBoard's event files."""

from __future__ import annotations

from pathlib import Path

from equipoise.training.folder import RunFolder


def write_events(folder: RunFolder) -> Path:
    """Writes metrics.jsonl as event files under the run's `tensorboard/`; those that an earlier call wrote go.

    The horizontal axis is the step. A record holds no time, so all bear that of the last change to metrics.jsonl.

    Args:
        folder: of the run.

    Returns:
        The folder to give to `tensorboard --logdir`.

    Raises:
        ImportError: tensorboard is not installed.
        ValueError: the run has no metrics.

    Example:
        >>> from pathlib import Path
        >>> folder = RunFolder.create(Path("run"), {"task": "hypergrid"}, {})
        >>> folder.log({"step": 0, "loss": 1.5})
        >>> write_events(folder).as_posix()
        'run/tensorboard'
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("event files need tensorboard: pip install 'equipoise[tensorboard]'") from error
    metrics = folder.metrics()
    if not metrics:
        raise ValueError(f"'{folder.path}' has no metrics: metrics.jsonl is absent or empty")
    place = folder.path / "tensorboard"
    for old in place.glob("events.out.tfevents.*"):
        old.unlink()
    time = (folder.path / "metrics.jsonl").stat().st_mtime
    writer = SummaryWriter(str(place))
    for record in metrics:
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                writer.add_scalar(name, value, record["step"], walltime=time)
    writer.close()
    return place
