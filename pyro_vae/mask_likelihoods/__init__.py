"""Models of the mask p(s | x, c): modules that take complete x and return a distribution over what is observed.

They are for values that are missing because of what they are, and so not at random. ``VAE(..., missing=True,
mask_likelihood=...)`` then learns p(x) and p(s | x) together (Ipsen, Mattei and Frellsen 2020, not-MIWAE,
arXiv 2006.12871). Without one, values count as missing at random.

The mask s is 1 where a value is observed. Each class standardises x by the mean and standard deviation of the observed
values, which :func:`pyro_vae.fit` takes from the training data. Until then it sees x as it is.
"""

from pyro_vae.mask_likelihoods.networks import LinearMasking, NetMasking
from pyro_vae.mask_likelihoods.self_masking import SelfMasking

__all__ = ["LinearMasking", "NetMasking", "SelfMasking"]
