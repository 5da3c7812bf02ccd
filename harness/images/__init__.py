"""From the sources people have to the pixels a network is given: sources, maps, pipelines, augmentation.

Nothing here knows which class is base or novel, a method or a run.
"""
