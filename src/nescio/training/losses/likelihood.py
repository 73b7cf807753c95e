"""Plain fine-tuning: the mean negative log-likelihood over all answer tokens of the batch.

On dialogs it makes the tuned model. On pairs it is a baseline: on the chosen answers ("SFT"), or on the dialogs' own
answers with the personal data scrubbed out, as the MEL-PETs team did in the paper's competition.
"""

from torch import Tensor

from nescio.training.batch import Likelihoods


def likelihood(of: Likelihoods) -> dict[str, Tensor]:
    """Negative log-likelihood of examples of one answer each; a longer answer weighs more."""
    return {"loss": -of.sums() / of.counts().mean()}
