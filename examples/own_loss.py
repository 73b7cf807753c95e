"""A loss of your own: a function from likelihoods of answers to a value for each pair, registered under a name.

`train.method: ipo` in a recipe takes it, once a package names it as an entry point:

    [project.entry-points."nescio.losses"]
    ipo = "my_package.own_loss:ipo"
"""

import torch

from nescio.training.batch import Likelihoods, Terms
from nescio.training.losses.registry import LOSSES, open_loss, pair_loss


@LOSSES.register("ipo")
@pair_loss(needs_reference=True)
def ipo(of: Likelihoods, beta: float) -> Terms:
    """IPO (Azar et al. 2023, eq. 17): the chosen answer gains 1 / 2 beta on the rejected, and no more."""
    gains = of.sums() - of.reference  # [answers]: chosen and rejected in turn
    margin = gains[::2] - gains[1::2]  # [pairs]
    return {"loss": (margin - 1 / (2 * beta)) ** 2, "margin": margin}


if __name__ == "__main__":
    # One pair: a chosen answer of two tokens and a rejected one of one. Training makes these numbers from the model.
    pair = Likelihoods(
        tokens=torch.tensor([-0.5, -0.5, -3.0]),
        answer_of=torch.tensor([0, 0, 1]),
        in_prompt=torch.zeros(3, dtype=torch.bool),
        answers=2,
        reference=torch.tensor([-2.0, -2.0]),
    )
    terms = open_loss("ipo").bind(beta=0.5)(pair)
    print({name: values.tolist() for name, values in terms.items()})
