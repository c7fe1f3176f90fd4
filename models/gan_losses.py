"""What the two networks of a GAN learn from: three pairs of losses, and the two gradient penalties.

Scores are those of the discriminator `[shape=(B,)]`; real and drawn clips of one place in the batch have the same class.
Losses are means over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["relativistic", "hinge", "non-saturating"]


def discriminator_loss(name: LossName, real_B: Tensor, drawn_B: Tensor) -> Tensor:
    """What the discriminator lowers.

    relativistic: a real clip shall score above the drawn one beside it (Jolicoeur-Martineau 2018; Huang et al. 2024, R3GAN).
    hinge: real above 1, drawn below -1 (Lim and Ye 2017; Miyato et al. 2018).
    non-saturating: logistic regression of real against drawn (Goodfellow et al. 2014).
    """
    if name == "relativistic":
        return F.softplus(drawn_B - real_B).mean()
    if name == "hinge":
        return F.relu(1 - real_B).mean() + F.relu(1 + drawn_B).mean()
    return F.softplus(-real_B).mean() + F.softplus(drawn_B).mean()


def generator_loss(name: LossName, drawn_B: Tensor, real_B: Tensor) -> Tensor:
    """What the generator lowers; `real_B` matters to the relativistic loss alone."""
    if name == "relativistic":
        return F.softplus(real_B - drawn_B).mean()
    if name == "hinge":
        return -drawn_B.mean()
    return F.softplus(-drawn_B).mean()


def diversity_loss(first_BMT: Tensor, second_BMT: Tensor, unit_M: Tensor, wanted: float) -> Tensor:
    """How much more alike two draws of a class are than two real clips of it, from 0 to 1, mean over the batch.

    A relative of mode seeking (Mao et al. 2019), which asks for the greatest distance; this asks for that of real clips and no more.

    Args:
        first_BMT: drawn clips in dB.
        second_BMT: others, each of the class of the one beside it, from another latent.
        unit_M: dB that count as one in each mel band.
        wanted: mean absolute difference of two real clips of a class, in these units.
    """
    apart_B = ((first_BMT - second_BMT) / unit_M[:, None]).abs().mean(dim=(1, 2))
    return F.relu(1 - apart_B / wanted).mean()


def gradient_penalty(score: Callable[[Tensor], Tensor], mel_BMT: Tensor, unit_M: Tensor) -> Tensor:
    """Half the squared norm of the score's gradient by the spectrogram, for each clip `[shape=(B,)]`.

    At real clips it is R1, at drawn ones R2 (Mescheder et al. 2018; both together: Huang et al. 2024).

    Args:
        score: from spectrograms in dB to scores `[shape=(B,)]`.
        mel_BMT: where the gradient is taken, in dB.
        unit_M: dB that count as one in each mel band (its deviation over the training set), so that bands weigh alike.
    """
    at = mel_BMT.detach().requires_grad_()
    (slope,) = torch.autograd.grad(score(at).sum(), at, create_graph=True)
    return 0.5 * (slope.float() * unit_M[:, None]).square().sum(dim=(1, 2))
