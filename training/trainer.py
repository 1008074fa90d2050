"""The training loop of both phases."""

from __future__ import annotations

import functools
import math
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from magicportrait_core.checkpoints.fingerprint import Fingerprint
from magicportrait_core.checkpoints.writing import write_network

from .batch import Batch
from .clip_store import ClipStore
from .curve import Curve, tracker_of
from .ema import MovingAverage
from .examples import Examples
from .interruption import Interruption
from .objective import draw, loss_of
from .optimizer import learning_rate_at, new_optimizer, set_learning_rate
from .prefetch import prefetched
from .run_state import NAME, RunState, read_state, write_state
from .start import Start, load_start
from .step_inputs import prepare_inputs
from .train_options import TrainOptions, changes
from .trained_networks import TrainedNetworks
from .validation import Validation

MODEL = "model"  # folder of the trained networks, inside the run's output
DRAWS_PRIME = 1_000_003  # seeds of neighbouring steps and of neighbouring data.seed stay apart


@dataclass(frozen=True)
class StepResult:
    loss: float  # mean over all processes
    gradient: float  # norm, before clipping
    learning_rate: float


class Trainer:
    """Networks, optimiser and data of a run. `step` counts the steps that were made."""

    def __init__(self, options: TrainOptions, start: Start, accelerator: Accelerator):
        self.options, self.accelerator, self.config = options, accelerator, start.config
        self.output = Path(options.run.output)
        self.networks = TrainedNetworks(start.networks, start.config, options.phase, start.text)
        if options.compute.checkpointing:
            self.networks.enable_gradient_checkpointing()
        self.networks.to(accelerator.device)
        for net in (
            self.networks.appearance_net,
            self.networks.denoising_unet,
            self.networks.guidance_encoders,
        ):
            net.to(memory_format=torch.channels_last)
        self.vae = start.vae and start.vae.to(accelerator.device)
        self.parameters = dict(self.networks.trained())
        self.average = MovingAverage(self.parameters, options.optimizer.ema)
        optimizer = new_optimizer(self.parameters.values(), options.optimizer, accelerator.device)
        self.predict, self.optimizer = accelerator.prepare(self.networks, optimizer)
        stores = [(ClipStore(folder), share) for folder, share in options.data.stores()]
        data = options.data
        self.examples = Examples(stores, start.config, data.window, data.batch, data.seed, data.augment)
        self.step = 0

    # -- one step ---------------------------------------------------------------------------------------

    def batch(self, step: int) -> Batch:
        """The rows of a step that belong to this process."""
        return self.examples.batch_at(step, self.accelerator.process_index, self.accelerator.num_processes)

    def make_step(self, batch: Batch) -> StepResult:
        """One step of the optimiser. FloatingPointError leaves everything as it was before the step."""
        rows = len(batch.reference)
        parts = min(self.options.compute.accumulate, rows)
        draws = self._draws(batch)
        total = torch.zeros((), device=self.accelerator.device)
        for number, part in enumerate(torch.arange(rows).chunk(parts)):
            chosen = slice(int(part[0]), int(part[-1]) + 1)
            last = number == parts - 1
            with nullcontext() if last else self.accelerator.no_sync(self.predict):
                inputs = prepare_inputs(batch[chosen].to(self.accelerator.device), self.config, self.vae)
                loss = loss_of(
                    self.predict,
                    self.networks,
                    inputs,
                    draws[chosen].to(self.accelerator.device),
                    self.config,
                    self.options.objective,
                ) * (len(part) / rows)
                self.accelerator.backward(loss)
            total += loss.detach()
        return self._update(self.accelerator.reduce(total, "mean").item())

    def _update(self, loss: float) -> StepResult:
        rate = learning_rate_at(self.step, self.options.optimizer, self.options.run.steps)
        set_learning_rate(self.optimizer, rate)
        norm = self.accelerator.clip_grad_norm_(self.parameters.values(), self.options.optimizer.clip)
        gradient = float(norm) if norm is not None else 0.0
        scaled = self.accelerator.scaler is not None  # fp16: steps whose gradient overflows are left out
        if not math.isfinite(loss) or not (scaled or math.isfinite(gradient)):
            self.optimizer.zero_grad()
            raise FloatingPointError(
                f"step {self.step + 1}: the loss is {loss:g} and the gradient {gradient:g}, no numbers to go "
                "on with; the last saved state stays: run again with run.allow_changes=true and a smaller "
                "optimizer.learning_rate, or with compute.precision=no"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.step)
        self.step += 1
        return StepResult(loss, gradient, rate)

    def _draws(self, batch: Batch):
        """This process' part of the step's random numbers, which are drawn for all processes together."""
        count, process = len(batch.reference), self.accelerator.process_index
        generator = torch.Generator().manual_seed(self.options.data.seed * DRAWS_PRIME + self.step)
        unit = self.config.pixels_per_cell
        cells = [side // unit for side in batch.frames.shape[-2:]]
        shape = (
            self.options.data.batch,
            self.config.unet.latent_channels,
            batch.frames.shape[1],
            *cells,
        )
        draws = draw(shape, self.config, self.options.objective, generator)
        return draws[process * count : (process + 1) * count]

    # -- keeping ----------------------------------------------------------------------------------------

    @functools.cached_property
    def frozen(self) -> str:
        """Fingerprint of what the run starts from and does not change."""
        found = Fingerprint()
        for name, value in self.networks.named_parameters():
            if not value.requires_grad:
                found.add(name, value)
        found.add("text", self.networks.text)
        return found.text()

    def save(self) -> None:
        """Write the run state, then the model; OSError of one sentence when there is no room."""
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            write_state(
                self.output / NAME,
                RunState(
                    step=self.step,
                    options=self.options.to_dict(),
                    frozen=self.frozen,
                    weights={name: value.detach() for name, value in self.parameters.items()},
                    average=self.average.state(),
                    optimizer=self.optimizer.state_dict(),
                    scaler=scaler and scaler.state_dict(),
                ),
            )
            self.write_model(self.output / MODEL)

    def write_model(self, folder: Path) -> None:
        """The networks with their averaged weights, as load_model() reads them."""
        notes = {
            "source": f"training.train_{self.options.phase}, {self.step} steps",
            "data": ", ".join(Path(folder).name for folder in self.options.data.folders),
        }
        with self.average.in_place():
            for role, network in self.networks.networks().by_role().items():
                text = self.networks.text if role == "denoising_unet" else None
                write_network(folder / f"{role}.safetensors", network, role, self.config, notes, text)

    def resume(self) -> bool:
        """Go on where an earlier run of these options stopped. ValueError says what has changed."""
        state = read_state(self.output / NAME)
        if state is None:
            return False
        changed = changes(state.options, self.options.to_dict())
        if changed and not self.options.run.allow_changes:
            raise ValueError(
                f"{self.output} holds a run with other options: {'; '.join(changed)}; choose another "
                "--output, or --set run.allow_changes=true to go on with the new ones"
            )
        if state.frozen != self.frozen or state.weights.keys() != self.parameters.keys():
            raise ValueError(
                f"{self.output} holds a run that started from other weights; give the files of then "
                "(model.start, model.motion, model.text), or choose another --output"
            )
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state.weights[name])
        self.average.load(state.average)
        self.optimizer.load_state_dict(state.optimizer)
        if state.scaler is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        self.step = state.step
        return True


def run(options: TrainOptions) -> int:
    """Train, or go on training. 0: done; 130: stopped by a signal, everything saved."""
    accelerator = new_accelerator(options)
    trainer = Trainer(options, load_start(options), accelerator)
    say = accelerator.print
    if options.run.dry_run:
        return dry_run(trainer)
    if trainer.resume():
        say(f"going on after step {trainer.step} of {options.run.steps}")
    say(trainer.examples.describe())
    validation = Validation.of(options, trainer.config)
    stopped = False
    try:
        with Interruption() as interruption, Curve.open(options, accelerator, trainer.step) as curve:
            stopped = _loop(trainer, curve, validation, interruption)
    except FloatingPointError:
        # Weights that led there may be bad already: an older state stays as it is.
        if not (trainer.output / NAME).exists():
            _save_after_error(trainer)
        raise
    except (ValueError, OSError):  # such as a damaged file of clips
        _save_after_error(trainer)
        raise
    say(f"stopped after step {trainer.step}; run the same command again to go on" if stopped else "done")
    return 130 if stopped else 0


def _loop(trainer: Trainer, curve: Curve, validation: Validation | None, interruption: Interruption) -> bool:
    """Whether a signal stopped it before the last step. Everything is saved when it returns."""
    options, accelerator = trainer.options.run, trainer.accelerator
    with prefetched(trainer.batch, trainer.step, options.steps) as batches:
        for batch in batches:
            begun = time.monotonic()
            result = trainer.make_step(batch)
            curve.add(trainer.step, vars(result), time.monotonic() - begun)
            done = trainer.step == options.steps
            if validation and (done or trainer.step % trainer.options.validation.every == 0):
                validation.report(trainer, curve)
            if done:
                break
            if _any(interruption.asked, accelerator):
                trainer.save()
                return True
            if trainer.step % options.save_every == 0:
                _save_or_warn(trainer)
    trainer.save()
    accelerator.wait_for_everyone()
    return False


def _save_after_error(trainer: Trainer) -> None:
    """Keep what was learnt; the first error is what people should read."""
    with suppress(OSError):
        trainer.save()


def _save_or_warn(trainer: Trainer) -> None:
    try:
        trainer.save()
    except OSError as error:
        later = trainer.step + trainer.options.run.save_every
        trainer.accelerator.print(
            f"warning: {error}; training goes on and saves again at step {later}", flush=True
        )


def _any(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any process was asked, so that all stop after the same step."""
    if accelerator.num_processes == 1:
        return asked
    return bool(accelerator.reduce(torch.tensor(float(asked), device=accelerator.device), "sum").item())


def new_accelerator(options: TrainOptions) -> Accelerator:
    """Where and in which precision is computed."""
    tracker = tracker_of(options.run.tracker)
    accelerator = Accelerator(
        mixed_precision=options.compute.precision,
        cpu=options.compute.cpu,
        log_with=tracker,
        project_dir=options.run.output,
        # At small batches it happens that no row reads its reference; AppearanceNet then has no gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if tracker and not accelerator.log_with:  # accelerate leaves out what it cannot import
        raise ImportError(
            f"run.tracker={tracker} is not installed: install it, or set run.tracker=none (RUN/curve.csv is "
            "always written)"
        )
    return accelerator


def dry_run(trainer: Trainer) -> int:
    """Say what would be trained and make one step; nothing is saved."""
    options, say = trainer.options, trainer.accelerator.print
    length = f"{options.run.steps} steps of {options.data.batch} rows"
    say(f"phase {options.phase}, model {trainer.config.name}, {length}")
    for name, (learning, count) in trainer.networks.counts().items():
        say(f"  {name}: {learning / 1e6:.2f} M of {count / 1e6:.2f} M parameters learn")
    say(trainer.examples.describe())
    memory = memory_of(trainer) / 1e9
    say(f"memory for weights, gradients, optimiser and average: {memory:.2f} GB; pictures need more")
    begun = time.monotonic()
    result = trainer.make_step(trainer.batch(0))
    say(f"one step: loss {result.loss:.4f}, gradient {result.gradient:.3g}, {time.monotonic() - begun:.2f} s")
    if trainer.accelerator.device.type == "cuda":
        say(f"most memory on the device: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
    return 0


def memory_of(trainer: Trainer) -> int:
    """Bytes of weights, gradients, two moments and the average, in float32."""
    counts = trainer.networks.counts().values()
    learning, everything = (sum(column) for column in zip(*counts, strict=True))
    moments = 2 if trainer.options.optimizer.eight_bit else 8
    return 4 * everything + (4 + 4 + moments) * learning
