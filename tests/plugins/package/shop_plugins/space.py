"""A guidance space: the mean of the branches' probabilities, whatever the scale."""

import math

import torch


def mean(positive, negative, gamma):
    return torch.logaddexp(positive, negative) - math.log(2)
