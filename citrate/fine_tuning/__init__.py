"""Training runs from the registry and back: inputs pulled and verified, the run done or replayed, its parts stored.

This is where training, which sees neither chain nor store, meets both.
"""

from citrate.fine_tuning.inputs import Prepared, prepare
from citrate.fine_tuning.looking import health_of
from citrate.fine_tuning.running import Trained, merged, require_reward, train, training_of
from citrate.fine_tuning.told import Told
from citrate.fine_tuning.verifying import Claim, Verified, claim, verify

__all__ = [
    "Claim",
    "Prepared",
    "Told",
    "Trained",
    "Verified",
    "claim",
    "health_of",
    "merged",
    "prepare",
    "require_reward",
    "train",
    "training_of",
    "verify",
]
