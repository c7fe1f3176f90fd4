"""GAN losses: three pairs of adversarial losses, the diversity loss and the gradient penalty.

Scores are outputs of the discriminator `[shape=(B,)]`; the real and the generated (fake) clip at the same
position in the batch have the same class. Losses are means over the batch.

Shape suffixes: B batch, M mel bands, T frames.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.settings import LossName


def discriminator_loss(name: LossName, real_B: Tensor, fake_B: Tensor) -> Tensor:
    """Compute the adversarial loss of the discriminator from the scores of real and generated clips.

    relativistic: each real clip above its fake one (Jolicoeur-Martineau 2018; Huang et al. 2024, R3GAN).
    hinge: real above 1, fake below -1 (Lim and Ye 2017; Miyato et al. 2018).
    non-saturating: logistic regression of real against fake (Goodfellow et al. 2014).
    """
    if name == "relativistic":
        return F.softplus(fake_B - real_B).mean()
    if name == "hinge":
        return F.relu(1 - real_B).mean() + F.relu(1 + fake_B).mean()
    return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()


def generator_loss(name: LossName, fake_B: Tensor, real_B: Tensor) -> Tensor:
    """Compute the adversarial loss of the generator; only the relativistic loss uses `real_B`."""
    if name == "relativistic":
        return F.softplus(real_B - fake_B).mean()
    if name == "hinge":
        return -fake_B.mean()
    return F.softplus(-fake_B).mean()


def diversity_loss(first_BMT: Tensor, second_BMT: Tensor, std_M: Tensor, real_difference_B: Tensor) -> Tensor:
    """Compute a hinge penalty in [0, 1] on similarity of generated clips of a class, relative to real clips.

    A variant of the mode-seeking loss (Mao et al. 2019), which maximizes the distance of generated clips;
    here the loss is zero once it reaches that of real clips of the class.

    Args:
        first_BMT: generated clips in dB.
        second_BMT: generated clips of the same classes from other latent vectors but the same noise, in dB.
        std_M: standard deviation of each mel band over the training data, in dB.
        real_difference_B: mean absolute difference of two real clips of the class, in units of `std_M`; the
            loss of a class whose real clips do not differ is 0.
    """
    difference_B = ((first_BMT - second_BMT) / std_M[:, None]).abs().mean(dim=(1, 2))
    return (F.relu(real_difference_B - difference_B) / real_difference_B.clamp(min=1e-6)).mean()


def gradient_penalty(score: Callable[[Tensor], Tensor], mel_BMT: Tensor, std_M: Tensor) -> Tensor:
    """Compute half the squared gradient norm of each score w.r.t. its spectrogram `[shape=(B,)]`.

    For real clips it is R1, for generated ones R2 (Mescheder et al. 2018; both: Huang et al. 2024).
    Differentiable with respect to the weights of `score`.

    Args:
        score: function from spectrograms in dB to scores `[shape=(B,)]`.
        mel_BMT: spectrograms in dB.
        std_M: standard deviation of each mel band over the training data, in dB; the gradient is
            taken with respect to normalized values, so that all bands have equal weight.
    """
    input_BMT = mel_BMT.detach().requires_grad_()
    (gradient_BMT,) = torch.autograd.grad(score(input_BMT).sum(), input_BMT, create_graph=True)
    return 0.5 * (gradient_BMT.float() * std_M[:, None]).square().sum(dim=(1, 2))
