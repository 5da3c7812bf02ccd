"""EASY: ensembles of augmented-shot networks, nearest class mean (Bendou et al. 2022, arXiv:2201.09699).

Each of several networks learns the base classes with manifold mixup and, in the same step, by how many quarters a part of
the batch was turned. Their features are averaged over random crops of an image (augmented shots) and put one after the
other; the long vectors are centred on the mean base feature and brought to unit length, and a query goes to the nearest
class mean. Every network is a fit of its own, chosen by its own validation, and shared: ``networks=1`` is the first of them.

What differs from the authors' code (github.com/ybendou/easy): where hidden maps are mixed is drawn among the inputs of the
blocks; one training for all shots (``validation_shot`` chooses another); as on their pages nothing is turned or mixed at
test. Their transductive row is ``soft-kmeans[easy]``.
"""

from methods.easy.method import Easy
from methods.easy.soft_kmeans import SoftKmeans

__all__ = ["Easy", "SoftKmeans"]
