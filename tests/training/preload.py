"""What the processes of ``ranked`` are forked with."""

import peft  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401
from trl import SFTConfig, SFTTrainer  # noqa: F401

import citrate.training.replay  # noqa: F401
