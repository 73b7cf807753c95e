"""Plain fine-tuning: the mean negative log-likelihood over all answer tokens of the batch.

On dialogs it makes the tuned model. On pairs it is a baseline: on the chosen answers ("SFT"), or on the dialogs' own
answers with the personal data scrubbed out, as the MEL-PETs team did in the paper's competition.
"""

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, pair_loss


def likelihood(of: Likelihoods) -> Terms:
    """Return the negative log-likelihood of examples of one answer each; a longer answer weighs more."""
    return {"loss": -of.sums() / of.counts().mean()}


LOSSES.register("sft")(pair_loss(answers=("chosen",), uses_twins=False)(likelihood))
LOSSES.register("sft_scrubbed")(pair_loss(answers=("chosen",), uses_twins=False, scrubs_chosen=True)(likelihood))
