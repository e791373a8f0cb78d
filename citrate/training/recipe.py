"""A recipe: everything that decides what a training run makes of its base and its dataset.

A user writes YAML; what is hashed, announced and replayed is the *bound* recipe: the same with the base, the dataset
and the reward model named by their content, as canonical JSON. Numbers that are no integers are decimal text in it, so
that equal recipes have equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    StrictBool,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from citrate.core import canonical, faults
from citrate.core.errors import ConfigError, FormatError, NotFoundError
from citrate.training import called_elsewhere, determinism, yaml_once
from citrate.training.rows import Method

RECIPE_MAX_BYTES = 1 << 20
WORLD_MAX = 64
_POWER_MAX, _DIGITS_MAX = 37, 28
"""Of numbers: what a float32 holds, and what a decimal keeps of it."""
_TOO_LONG = f"a number of at most {_DIGITS_MAX} digits, and no more than {_POWER_MAX} zeros before them, is wanted"
_LENGTH = 1024
PROMPTS_MAX = 64
PROMPT_MAX_CHARACTERS = 2000
_HINT = "every field is described in docs/training.md; examples are in examples/recipes"


def _number(value: object) -> Decimal:
    """YAML reads ``2e-4`` as text and ``2.0e-4`` as a number: both are meant as the decimal that stands there."""
    try:
        found = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation as error:
        raise ValueError("a number is wanted") from error
    if not found.is_finite():
        raise ValueError("a number is wanted")
    if not found:
        return Decimal(0)
    if abs(found.adjusted()) > _POWER_MAX:  # before it is spelled: that may take a gigabyte
        raise ValueError(_TOO_LONG)
    as_bound = Decimal(_spelled(found))  # in which 1e30 has 31 digits
    if max(len(each.as_tuple().digits) for each in (found, as_bound)) > _DIGITS_MAX:
        raise ValueError(_TOO_LONG)
    return found


def _spelled(value: Decimal) -> str:
    text = format(value.normalize(), "f")
    return "0" if text == "-0" else text


Number = Annotated[Decimal, BeforeValidator(_number), PlainSerializer(_spelled)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Positive = Annotated[Number, Field(gt=0)]
Whole = Annotated[int, Field(strict=True)]
"""YAML's ``yes`` and ``on`` are no numbers."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Backend(StrEnum):
    """What trains."""

    TRL = "trl"
    """Hugging Face's TRL, on torch."""
    MLX = "mlx"
    """Apple's MLX with mlx-lm's layers: ``sft``, on Apple silicon and (slowly) on any CPU."""


_ALL_LINEAR = "all-linear"


def _targets(value: object) -> object:
    """One name is as good as a list of one; a list says something, and nothing twice."""
    if value == _ALL_LINEAR:
        return value
    names = [value] if isinstance(value, str) else value
    named = [name for name in names if isinstance(name, str) and name] if isinstance(names, list | tuple) else []
    if not isinstance(names, list | tuple) or not names or len(set(named)) < len(names):
        raise ValueError(f"names of layers, each once, or {_ALL_LINEAR} is wanted")
    return names


Targets = Annotated[Literal["all-linear"] | tuple[str, ...], BeforeValidator(_targets)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Lora(_Part):
    """The adapter that is trained."""

    rank: Annotated[Whole, Field(gt=0, le=4096)] = 16
    """Rank of the update."""
    alpha: Annotated[Whole, Field(gt=0, le=4_294_967)] = 32
    """The update is added at ``alpha / rank`` (``alpha / sqrt(rank)`` with ``rslora``)."""
    targets: Targets = "all-linear"
    """Names of the linear layers that get an update, such as ``q_proj``."""
    dropout: Fraction = Decimal(0)
    """The part of the adapter's input that is dropped in training."""
    dora: StrictBool = False
    """Learn magnitudes apart from directions (DoRA)."""
    rslora: StrictBool = False
    """Scale by the square root of the rank."""


class Optimizer(_Part):
    """How weights follow gradients: AdamW."""

    learning_rate: Positive = Decimal("0.0002")
    weight_decay: Annotated[Number, Field(ge=0)] = Decimal(0)
    beta1: Fraction = Decimal("0.9")
    beta2: Fraction = Decimal("0.999")
    epsilon: Positive = Decimal("0.00000001")
    max_grad_norm: Positive = Decimal(1)
    """Gradients of a larger norm are scaled down to it."""


class Schedule(_Part):
    """How the learning rate goes over the steps."""

    kind: Literal["linear", "cosine", "constant"] = "linear"
    """What it does after the warm-up: falls to 0 on a line or a cosine, or stays."""
    warmup_steps: Annotated[Whole, Field(ge=0)] = 0


class Preference(_Part):
    """Options of ``dpo`` and ``kto``."""

    beta: Positive = Decimal("0.1")
    """How dear it is to leave the base."""
    loss: Literal["sigmoid", "hinge", "ipo", "robust"] = "sigmoid"
    """DPO's loss; ``kto`` takes none but the default."""


class Reinforcement(_Part):
    """Options of ``grpo`` and ``rloo``."""

    reward_model: Annotated[str, StringConstraints(min_length=1)]
    """A reward model that was merged into its base: a reference or a folder."""
    generations: Annotated[Whole, Field(ge=2, le=1 << 16)] = 4
    """Answers to each prompt."""
    max_completion_length: Annotated[Whole, Field(gt=0, le=1 << 24)] = 256
    """Tokens of an answer."""
    temperature: Positive = Decimal(1)
    beta: Annotated[Number, Field(ge=0)] = Decimal("0.04")
    """How dear it is to leave the base; 0 holds no reference."""


class Functional(_Part):
    """By what behaviour a replay that rounds otherwise is known: grade C. Committed to with the recipe."""

    prompts: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=PROMPT_MAX_CHARACTERS)], ...],
        Field(min_length=1, max_length=PROMPTS_MAX),
    ]
    """The texts on which the predictions of two adapters are compared."""
    limit: Annotated[Number, Field(gt=0, le=Decimal("0.1"))] = Decimal("0.01")
    """How far (KL divergence) the replay may end from what is claimed, in units of how far the segment went."""


_LATER: Mapping[str, object] = {"backend": Backend.TRL, "functional": None}
"""Fields that older recipes do not have, and what that means: left out of the hash, which stays what it was."""
_MLX_PROFILE = "citrate/mlx-cpu"


class Recipe(_Part):
    """One training run. See docs/training.md for examples."""

    schema_: Literal["citrate.recipe/1"] = Field(alias="schema")
    base: Annotated[str, StringConstraints(min_length=1)]
    """What is trained on: a reference, or a folder with safetensors."""
    method: Method
    backend: Backend = Backend.TRL
    """What trains; ``mlx`` knows ``sft`` only, and takes an MLX variant as a base too (QLoRA where it is quantised)."""
    dataset: Annotated[str, StringConstraints(min_length=1)]
    """A dataset's CID or folder."""
    lora: Lora = Lora()
    quantization: Literal["none", "nf4"] = "none"
    """``nf4``: the base in 4 bits while it is trained on (QLoRA)."""
    steps: Annotated[Whole, Field(gt=0, le=10_000_000)]
    """Optimizer steps."""
    batch_size: Annotated[Whole, Field(gt=0, le=1 << 20)] = 8
    """Rows a step and process, before accumulation; for ``grpo`` and ``rloo``: answers."""
    accumulation: Annotated[Whole, Field(gt=0, le=1 << 20)] = 1
    """Batches a step."""
    max_length: Annotated[Whole, Field(gt=1, le=1 << 24)] = _LENGTH
    """Tokens of a row; what is longer is cut. ``grpo`` and ``rloo`` cut nothing, and take no other than the default."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    preference: Preference | None = None
    reinforcement: Reinforcement | None = None
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0
    """Decides the adapter's first weights, the order of the rows, dropout and sampling."""
    precision: Literal["float32", "bfloat16"] = "float32"
    world_size: Annotated[Whole, Field(gt=0, le=4096)] = 1
    """Processes that train together, each on its own rows: their number changes the result."""
    accelerate: Annotated[str, StringConstraints(min_length=1)] | None = None
    """An accelerate configuration (YAML), by which accelerate starts the processes. On GPUs (FSDP, DeepSpeed) it is
    part of what is hashed, and the run is not replayed; on processors it only starts them. See ``accelerating``."""
    determinism: str = "citrate/cpu-avx2-fp32"
    """The profile under which a replay is bit for bit; with ``mlx`` it is ``citrate/mlx-cpu``. See docs/training.md."""
    checkpoint_every: Annotated[Whole, Field(gt=0, le=10_000_000)] = 50
    """Steps of a segment: what a verifier replays, and what a killed run loses at most."""
    functional: Functional | None = None
    """Whether and how a replay on another kind of machine may be judged by behaviour."""

    @model_validator(mode="before")
    @classmethod
    def _has_its_backends_profile(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("backend") == Backend.MLX:
            return {"determinism": _MLX_PROFILE, **given}
        return given

    @model_serializer(mode="wrap")
    def _as_it_was_hashed_before(self, dumped: SerializerFunctionWrapHandler) -> dict[str, object]:
        document: dict[str, object] = dumped(self)
        return {key: value for key, value in document.items() if key not in _LATER or value != _LATER[key]}

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        reinforced = self.method in (Method.GRPO, Method.RLOO)
        if reinforced != (self.reinforcement is not None):
            said = "needs reinforcement: at least its reward_model" if reinforced else "takes no reinforcement"
            raise ValueError(f"{self.method} {said}")
        if self.preference is not None and self.method not in (Method.DPO, Method.KTO):
            raise ValueError(f"{self.method} takes no preference")
        if self.method == Method.KTO and self.preference is not None and self.preference.loss != "sigmoid":
            raise ValueError(f"preference.loss is {self.preference.loss}: kto has none but sigmoid")
        if self.method == Method.KTO and self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}: kto compares the rows of a batch, two or more")
        if self.reinforcement is not None:
            answers = self.batch_size * self.accumulation * self.world_size
            if answers % self.reinforcement.generations:
                raise ValueError(
                    f"{answers} answers a step are no multiple of {self.reinforcement.generations} generations"
                )
        if reinforced and self.max_length != _LENGTH:
            raise ValueError(f"{self.method} takes no max_length: reinforcement.max_completion_length is of answers")
        _require_profile(self.determinism, self.precision, self.backend)
        if self.backend is Backend.MLX:
            self._fits_mlx()
        if self.functional is not None and (self.method == Method.REWARD or self.lora.dora):
            raise ValueError("functional compares predictions of text, by plain LoRA: no reward, no dora")
        if self.accelerate is None and self.world_size > WORLD_MAX:
            raise ValueError(f"world_size is {self.world_size}: {WORLD_MAX} or less, since all are on one machine")
        if self.schedule.warmup_steps >= self.steps:
            raise ValueError(f"schedule.warmup_steps is {self.schedule.warmup_steps}: it has to be less than steps")
        return self

    def _fits_mlx(self) -> None:
        wrong = (
            (self.method != Method.SFT, f"mlx trains by sft only: {self.method} is TRL's, which is torch"),
            (self.lora.dora or self.lora.rslora, "mlx-lm's adapters are plain LoRA: no dora, no rslora"),
            (self.quantization != "none", "mlx takes its base as it is: name a quantised variant, such as #mlx:4bit"),
            (self.world_size > 1 or self.accelerate is not None, "mlx trains in one process: no world_size"),
        )
        for holds, message in wrong:
            if holds:
                raise ValueError(message)

    @property
    def segments(self) -> int:
        """How many parts a verifier can choose among."""
        return -(-self.steps // self.checkpoint_every)


def _require_profile(name: str, precision: str, backend: Backend) -> None:
    try:
        found = determinism.profile(name)
    except ConfigError as error:
        raise ValueError(f"{error.message}: {error.hint}") from error
    if found.backend != backend:
        others = (each.name for each in determinism.PROFILES.values() if each.backend == backend)
        raise ValueError(f"the profile {name} is of {found.backend}, not {backend}: {' or '.join(others)}")
    if found.precision and precision != found.precision:
        raise ValueError(f"the profile {name} is of {found.precision}, not {precision}: determinism: citrate/cpu")


class Bound(_Part):
    """A recipe whose inputs are named by their content: what is hashed, announced and replayed.

    ``recipe`` says nothing of where its inputs lie: its ``base``, ``dataset`` and ``reward_model`` are ``-``.
    """

    recipe: Recipe
    base_sha256: Digest
    dataset_root: Digest
    reward_sha256: Digest | Literal[""] = ""
    accelerate: str = ""
    """The accelerate configuration as canonical JSON, where it decides something."""

    @model_validator(mode="after")
    def _has_what_it_names(self) -> Bound:
        if (self.recipe.accelerate is not None) != bool(self.accelerate):
            raise ValueError("an accelerate configuration is named and not there, or there and not named")
        if self.accelerate and self.recipe.checkpoint_every < self.recipe.steps:
            raise ValueError("checkpoint_every is steps or more with accelerate: what it shards is not kept on the way")
        return self

    def to_bytes(self) -> bytes:
        """As it is hashed."""
        return canonical.dumps(self.model_dump(mode="json", by_alias=True))

    @property
    def sha256(self) -> str:
        """The recipe's hash, as it stands in the training ledger and in an adapter's record."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def parse(cls, data: bytes) -> Bound:
        """Read a bound recipe.

        Raises:
            FormatError: not canonical JSON, or no bound recipe.
        """
        try:
            return cls.model_validate(canonical.loads(data))
        except ValidationError as error:
            raise FormatError(f"not a recipe: {faults.first(error, cls).message}") from error


def bind(
    recipe: Recipe, *, base_sha256: str, dataset_root: str, reward_sha256: str = "", accelerate: str = ""
) -> Bound:
    """Name a recipe's inputs by their content. ``accelerate``: a configuration that decides something."""
    changes: dict[str, object] = {"base": "-", "dataset": "-"}
    if recipe.reinforcement is not None:
        changes["reinforcement"] = recipe.reinforcement.model_copy(update={"reward_model": "-"})
    if recipe.accelerate is not None:
        changes["accelerate"] = "-" if accelerate else None
    return Bound(
        recipe=recipe.model_copy(update=changes),
        base_sha256=base_sha256,
        dataset_root=dataset_root,
        reward_sha256=reward_sha256,
        accelerate=accelerate,
    )


def load(path: Path) -> Recipe:
    """Read a recipe that a user wrote.

    Raises:
        NotFoundError: no such file.
        ConfigError: not YAML, or a field is unknown, missing, or contradicts another; the message names it.
    """
    if not path.is_file():
        raise NotFoundError(f"no such recipe: {path}", hint="examples are in examples/recipes")
    if path.stat().st_size > RECIPE_MAX_BYTES:
        raise ConfigError(f"{path.name} is larger than a recipe can be", hint=_HINT)
    try:
        document = yaml_once.load(path.read_bytes())
    except yaml_once.NotYamlError as error:
        raise ConfigError(f"{path.name} {error}", hint=_HINT) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name} is not a recipe: a mapping of fields is wanted", hint=_HINT)
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        fault = faults.first(error, Recipe, called_elsewhere.FIELDS)
        raise ConfigError(f"{path.name}: {fault.message}", hint=fault.hint or _HINT) from error
