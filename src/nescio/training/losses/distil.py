"""Distillation: the student's distribution comes close to a teacher's, token by token, on given answers.

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", at temperature 1.
"""

from nescio.training.batch import Likelihoods, Terms


def distil(of: Likelihoods) -> Terms:
    """Return the mean KL(teacher ‖ student) over the tokens of each example's answer, in nats."""
    return {"loss": of.divergences()}
