"""What a training run is told: frozen options, from a preset, YAML files and the command line.

An option is written group.name, in YAML as nested keys, on the command line as --set group.name=value.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from magicportrait_core.models.config import CONFIGS, ModelConfig

from .augment import AugmentOptions

PRESETS = Path(__file__).parent / "presets"
Phase = Literal["appearance", "motion"]
Precision = Literal["no", "fp16", "bf16"]
# What may change when a run goes on: the course of the steps that were made does not depend on it.
HARMLESS = ("run", "validation")


@dataclass(frozen=True)
class ModelOptions:
    """Which networks, and what they start from."""

    config: str = "small"  # one of models.config.CONFIGS, or a file with ModelConfig.to_json()
    start: str = ""  # appearance: SD 1.5 (folder or checkpoint) or a model folder; motion: a model folder
    motion: str = ""  # AnimateDiff's motion modules, a file; "": untrained ones, which change nothing
    vae: str = ""  # SD 1.5's, where the model works on latents
    text: str = ""  # CLIP-L or an embedding, where the model reads text that the start does not bring
    noise_scale: float | None = None  # of the noise that sampling starts from; None: the config's

    def model_config(self) -> ModelConfig:
        """FileNotFoundError or ValueError for a name that is none and a file that holds none."""
        config = CONFIGS[self.config] if self.config in CONFIGS else _stored_config(Path(self.config))
        return (
            config if self.noise_scale is None else dataclasses.replace(config, noise_scale=self.noise_scale)
        )


@dataclass(frozen=True)
class DataOptions:
    """Which clips make a step."""

    folders: tuple[str, ...] = ()  # FOLDER or FOLDER=SHARE of the rows
    batch: int = 16  # rows of a step, of all processes and accumulated parts together
    window: int = 1  # frames of a row; 1 in the first phase
    seed: int = 0  # of the order of rows, noise and everything else that is drawn
    augment: AugmentOptions = field(default_factory=AugmentOptions)

    def __post_init__(self):
        _at_least("data.batch", self.batch, 1)
        _at_least("data.window", self.window, 1)

    def stores(self) -> list[tuple[Path, float]]:
        """Folder and share of each."""
        return [_folder_and_share(text) for text in self.folders]


@dataclass(frozen=True)
class ObjectiveOptions:
    """What is made small; see training.objective."""

    kind: Literal["picture", "v"] = "picture"
    absolute: float = 0.1  # picture: weight of absolute errors
    squares: float = 1.0  # picture: weight of squared errors
    psnr: float = 0.0  # picture: weight of the logarithm of each row's squared error on the head
    edges: float = 0.5  # picture: weight of the differences between neighbouring pixels
    flicker: float = 0.5  # picture: weight of the differences between neighbouring frames
    head: float = 2.0  # picture: weight of pixels of the head, beside 1 of the others
    later_steps: float = 0.15  # picture: share of rows at timesteps behind the first one of sampling
    most_steps: int = 8  # picture: of the samplings that these timesteps come from
    reference_dropout: float = 0.1  # share of rows that do not see the portrait (classifier-free guidance)

    def __post_init__(self):
        _one_of("objective.kind", self.kind, ("picture", "v"))
        for name in ("later_steps", "reference_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"objective.{name}={getattr(self, name):g}; expected a share of 0 to 1")
        if not 2 <= self.most_steps <= 1000:
            raise ValueError(f"objective.most_steps={self.most_steps}; expected 2 to 1000")


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW and the course of its learning rate."""

    learning_rate: float = 1e-3
    warmup: int = 50  # steps in which the learning rate rises
    decay: Literal["constant", "linear", "cosine"] = "linear"
    decay_steps: int = 0  # steps until `floor` is reached; 0: run.steps
    floor: float = 0.02  # share of the learning rate that is left at the end
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-3
    clip: float = 1.0  # largest norm of the gradient
    eight_bit: bool = False  # keep the optimiser's state in 8 bits (bitsandbytes)
    ema: float = 0.995  # decay of the moving average of the weights, which is what is kept in the end

    def __post_init__(self):
        _one_of("optimizer.decay", self.decay, ("constant", "linear", "cosine"))
        if not self.learning_rate > 0:
            raise ValueError(f"optimizer.learning_rate={self.learning_rate:g}; expected more than 0")
        if not 0 <= self.ema < 1:
            raise ValueError(f"optimizer.ema={self.ema:g}; expected 0 (off) to below 1")


@dataclass(frozen=True)
class ComputeOptions:
    """How a step is computed; rounding depends on it."""

    precision: Precision = "no"  # mixed precision
    accumulate: int = 1  # parts that the rows of a process are computed in, one after the other
    checkpointing: bool = False  # less memory, about a third more time
    cpu: bool = False  # on the CPU even where there is an accelerator

    def __post_init__(self):
        _one_of("compute.precision", self.precision, ("no", "fp16", "bf16"))
        _at_least("compute.accumulate", self.accumulate, 1)


@dataclass(frozen=True)
class RunOptions:
    """How long, and what is kept and shown."""

    output: str = ""  # folder
    steps: int = 1000
    save_every: int = 500  # steps between run states, from which a stopped run goes on
    log_every: int = 10
    tracker: str = "auto"  # an accelerate tracker; auto: TensorBoard where it is installed; none
    allow_changes: bool = False  # go on with a run although options that decide its course have changed
    dry_run: bool = False

    def __post_init__(self):
        for name in ("steps", "save_every", "log_every"):
            _at_least(f"run.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class ValidationOptions:
    """What is looked at on the way; a held-out folder, without variations."""

    folder: str = ""  # "": nothing is
    every: int = 500  # steps
    rows: int = 64  # that numbers are taken over
    pictures: int = 6  # rows of the sheet
    steps: tuple[int, ...] = (1, 4)  # denoising steps to sample with

    def __post_init__(self):
        for name in ("every", "rows", "pictures"):
            _at_least(f"validation.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class TrainOptions:
    """Everything about a run."""

    phase: Phase = "appearance"
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    run: RunOptions = field(default_factory=RunOptions)
    validation: ValidationOptions = field(default_factory=ValidationOptions)

    def __post_init__(self):
        if self.phase == "appearance" and self.data.window != 1:
            raise ValueError(
                f"data.window={self.data.window}; the first phase trains on single pictures, expected 1"
            )
        if self.objective.kind == "picture" and self.model.model_config().prior is None:
            raise ValueError(
                f"objective.kind=picture is for warp-preconditioned models, {self.model.config!r} is none; "
                "choose objective.kind=v"
            )

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as a YAML file holds them."""
        return _plain(dataclasses.asdict(self))


def from_values(values: Mapping[str, Any]) -> TrainOptions:
    """Options from nested values; what is not named has its default. ValueError names an odd one."""
    return _build(TrainOptions, values, "")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Sentences such as "data.batch was 16 and is 8", of options that decide the course of a run."""
    old, new = (_flat({k: v for k, v in values.items() if k not in HARMLESS}) for values in (before, now))
    return [
        f"{name} was {old.get(name)!r} and is {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def command_line(phase: Phase, description: str, arguments: Sequence[str] | None = None) -> TrainOptions:
    """The options of a command: preset, then --config, then what the command line says."""
    parser = argparse.ArgumentParser(
        prog=f"python -m training.train_{phase}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser, phase)
    given = parser.parse_args(arguments)
    values: dict[str, Any] = {"phase": phase}
    for path in ([PRESETS / f"{phase}_{given.preset}.yaml"] if given.preset else []) + given.config:
        _merge(values, read_yaml(path))
    for name, value in _shortcuts(given).items():
        _put(values, name, value)
    for text in given.set:
        name, mark, value = text.partition("=")
        if not mark:
            raise ValueError(f"--set {text}: expected group.name=value, as in --set optimizer.warmup=100")
        _put(values, name, yaml.safe_load(value))
    if values["phase"] != phase:
        raise ValueError(f"phase={values['phase']}: these options are for training.train_{values['phase']}")
    options = from_values(values)
    for name, value in (("--data", options.data.folders), ("--output", options.run.output)):
        if not value:
            raise ValueError(f"{name} is missing; expected a folder")
    return options


def read_yaml(path: Path) -> dict[str, Any]:
    """The nested values of a YAML file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there are no options {str(path)!r}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values or {}, dict):
        raise ValueError(
            f"{path} holds no options; expected groups such as `optimizer:` with names under them"
        )
    return values or {}


_SHORT = {  # flag -> option, for what is given often
    "data": "data.folders",
    "output": "run.output",
    "steps": "run.steps",
    "start": "model.start",
    "validate": "validation.folder",
    "seed": "data.seed",
}


def _add_arguments(parser: argparse.ArgumentParser, phase: Phase) -> None:
    presets = sorted(path.stem.removeprefix(f"{phase}_") for path in PRESETS.glob(f"{phase}_*.yaml"))
    add = parser.add_argument
    add("--preset", choices=presets, help="options to begin with")
    add(
        "--config",
        type=Path,
        action="append",
        default=[],
        help="YAML file over the preset; several may be given",
    )
    add("--data", nargs="+", metavar="FOLDER", help="clips to train on; FOLDER=SHARE weighs several")
    add("--output", help="folder of the run: run state, model, curve, pictures")
    add("--start", help="what the networks start from (model.start)")
    add("--validate", metavar="FOLDER", help="held-out clips (validation.folder)")
    add("--steps", type=int, help="run.steps")
    add("--seed", type=int, help="data.seed")
    add("--set", action="append", default=[], metavar="GROUP.NAME=VALUE", help="any other option")
    add(
        "--dry-run",
        action="store_true",
        default=None,
        help="say what would be trained, make one step, save nothing",
    )


def _shortcuts(given: argparse.Namespace) -> dict[str, Any]:
    values = {option: getattr(given, flag) for flag, option in _SHORT.items()}
    values["run.dry_run"] = given.dry_run
    return {name: value for name, value in values.items() if value is not None}


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *groups, last = name.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise ValueError(f"there is no option {name}: {group} is a value, not a group")
    values[last] = value


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _merge(values[name], value)
        else:
            values[name] = value


def _build(kind: type, values: Any, place: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{place or 'options'}={values!r}; expected names with values")
    types = typing.get_type_hints(kind)
    unknown = [name for name in values if name not in types]
    if unknown:
        raise ValueError(f"there is no option {place}{unknown[0]}; {place or 'there '}has {', '.join(types)}")
    return kind(**{name: _value(types[name], value, place + name) for name, value in values.items()})


def _value(kind: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{name}.")
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        value = {False: "no"}.get(value, value) if "no" in inner else value  # what YAML makes of `no`
        _one_of(name, value, inner)
        return value
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_value(inner[0], item, name) for item in items)
    if type(None) in inner:
        return None if value is None else _value(inner[0], value, name)
    return _plain_value(kind, value, name)


def _plain_value(kind: type, value: Any, name: str) -> Any:
    if kind is float and isinstance(value, str):  # YAML 1.1 takes 1e-5 for a word
        try:
            value = float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        words = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
        raise ValueError(f"{name}={value!r}; expected {words[kind]}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _flat(values: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f"{place}{name}.") if isinstance(value, Mapping) else {place + name: value}
    return flat


def _stored_config(path: Path) -> ModelConfig:
    if not path.suffix:
        raise ValueError(
            f"model.config={str(path)!r}; expected {', '.join(CONFIGS)} or a .json or .yaml file"
        )
    try:
        return ModelConfig.from_json(read_yaml(path))  # JSON is YAML
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no sizes of networks ({error})") from error


def _folder_and_share(text: str) -> tuple[Path, float]:
    folder, mark, share = text.rpartition("=")
    if mark and not Path(text).exists():
        try:
            return Path(folder), float(share)
        except ValueError:
            pass
    return Path(text), 1.0


def _one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}; expected one of {', '.join(map(str, allowed))}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}={value}; expected at least {least}")
