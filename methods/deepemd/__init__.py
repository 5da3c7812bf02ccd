"""DeepEMD (Zhang, Cai, Lin, Shen, CVPR 2020, arXiv:2003.06777), with the grids, crops and pyramids of its later version.

An image is a set of node vectors: the locations of its feature map (``fcn``, where ``feature_pyramid`` adds pooled
ones), the cells of grids over the picture (``grid``), or random crops of it (``sampling``). A query is compared with a
class by optimal transport: nodes weigh by their product with the mean node of the other image, and the score is the
mean cosine under the cheapest flow. A backbone that has learnt to tell the base classes apart (``deepemd-pretrain``) is
trained on 1-shot episodes through that flow; with more shots the nodes of a class are fitted in the episode by SGD, a
structured fully connected layer (SFC).

What differs from the authors' code (github.com/icoz69/DeepEMD): the solver is exact and its gradient goes through the
masses too, at a speed at which theirs drops it (``grad="flow-only"`` does, and ``weight_eps=1e-5`` adds what their OpenCV
mode, and so all their evaluation, adds to the masses; ``--recipe as-published`` sets both); SFC has one learning rate,
100 (theirs is 0.1 in training, which moves nothing, and 100 at test), its weight decay works, and its passes are whole
numbers; meta-training is at 1 shot alone, as behind all their numbers; the random crops at test are drawn once a picture,
not once an episode; validation is by the harness's 400 episodes, not by 1,000; a NaN ends a training, where they skip its
gradient. Grey drawings of 28 pixels are enlarged to 84, where conv4 has 25 locations and not one. Their pixels are those
of ``--pipeline deepemd`` on pictures of full resolution, their tests 5,000 episodes at 1 shot and 600 at 5
(``--episodes``).
"""

from methods.deepemd.method import DeepEmd
from methods.deepemd.pretrain import DeepEmdPretrain

__all__ = ["DeepEmd", "DeepEmdPretrain"]
