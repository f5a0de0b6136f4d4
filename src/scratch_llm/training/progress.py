"""How fast a run goes, and the lines it prints."""

from __future__ import annotations

import statistics
import time

# The share of the matmul peak that a large model reaches; small ones stay below.  Only to guess, before a run, how long it takes.
USUAL_MFU = 0.35


class Speedometer:
    """Times steps: tokens per second, model FLOPs utilisation, time to go.

    ``peak_flops`` is the measured peak.  With ``nominal_flops``, the data sheet's, records also hold the utilisation that
    others publish.
    """

    def __init__(self, model, windows, peak_flops: float, steps: int, nominal_flops: float | None = None):
        self.tokens_per_step = getattr(windows, "mean_tokens", windows.batch_size * windows.context_length)
        self.flops_per_token = getattr(model, "flops_per_token", lambda length: None)(windows.context_length)
        self.peak_flops, self.nominal_flops = peak_flops, nominal_flops
        self.steps = steps
        self._times: list[float] = []
        self._started = 0.0

    @property
    def estimated_seconds(self) -> float:
        """A guess at the run's length before it starts; 0 where the model cannot count its FLOPs."""
        flops = (self.flops_per_token or 0) * self.tokens_per_step * self.steps
        return flops / (USUAL_MFU * self.peak_flops)

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> dict[str, float]:
        """Fields of the step's record."""
        self._times.append(time.perf_counter() - self._started)
        tokens_per_second = self.tokens_per_step / self._times[-1]
        record = {"tokens_per_second": round(tokens_per_second, 1)}
        if self.flops_per_token:
            flops_per_second = tokens_per_second * self.flops_per_token
            record["mfu"] = round(flops_per_second / self.peak_flops, 4)
            if self.nominal_flops:
                record["nominal_mfu"] = round(flops_per_second / self.nominal_flops, 4)
        return record

    def eta(self, step: int) -> float | None:
        """Seconds to go, from the median of the latest 20 steps: one slow step does not frighten anybody.

        None after the first step of a process, which warms up or compiles and foretells nothing.
        """
        times = self._times[1:][-20:]
        return statistics.median(times) * (self.steps - step) if times else None

    def typical(self, records: list[dict]) -> tuple[float, float | None]:
        """Median tokens per second and MFU over all recorded steps, of earlier processes too."""
        mfus = [record["mfu"] for record in records if "mfu" in record]
        return (statistics.median(record["tokens_per_second"] for record in records),
                statistics.median(mfus) if mfus else None)


def step_line(record: dict, steps: int, eta: float | None) -> str:
    """``step   120/1000  loss 4.5123  lr 9.8e-04  |g| 0.83  5,812 tok/s  MFU 54 %  ETA 3:12``"""
    mfu = f"  MFU {record['mfu']:.0%}" if "mfu" in record else ""
    return (f"step {record['step']:>{len(str(steps))}}/{steps}  loss {record['loss']:.4f}  "
            f"lr {record['learning_rate']:.2e}  |g| {record['grad_norm']:.2f}  "
            f"{record['tokens_per_second']:,.0f} tok/s{mfu}  ETA {'–' if eta is None else clock(eta)}")


def eval_line(record: dict) -> str:
    bits = f"  {record['bits_per_byte']:.4f} bits/byte" if "bits_per_byte" in record else ""
    average = f"  (averaged weights {record['ema_valid_loss']:.4f})" if "ema_valid_loss" in record else ""
    return f"  valid loss {record['valid_loss']:.4f}{bits}{average}"


def clock(seconds: float) -> str:
    """75 -> "1:15", 3700 -> "1:01:40"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
