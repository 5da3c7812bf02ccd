"""Low-shot learning by shrinking and hallucinating features (Hariharan and Girshick, ICCV 2017, arXiv:1606.02819).

A representation is trained on base classes so that few examples say as much as many: an auxiliary loss shrinks the
gradient that the base classifier would have at an example (SGM), or the features. On its frozen features a linear
classifier over base and novel classes is trained, from the few novel examples (``lowshot-logistic``) or from these and
others made up from them by a network that has learnt how examples of base classes differ (``lowshot-hallucination``);
or queries attend to all examples at once (``matching-network``).

What differs from the authors' code (github.com/facebookresearch/low-shot-shrink-hallucinate): a representation has as
many outputs as base classes (theirs 1,000, of which 389 are ever targets), and padding rows of feature files are read
nowhere (theirs are by their fallback classifier and matching network). Grey drawings have a short recipe of their own,
with small random affine maps; weights of the auxiliary losses do not transfer between data sets and were chosen on
validation halves.
"""

from methods.lowshot.logistic import LowshotHallucination, LowshotLogistic
from methods.lowshot.matching import MatchingNetwork
from methods.lowshot.representation import Representation

__all__ = ["LowshotHallucination", "LowshotLogistic", "MatchingNetwork", "Representation"]
