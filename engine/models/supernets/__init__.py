"""Supernets with weight sharing: every architecture of a search space is a slice of one set of weights.

Sources: PerFedRLNAS (Yao and Li, AAAI 2024) and its released configuration, on the supernets of AttentiveNAS
(arXiv 2011.09011) and NASViT (ICLR 2022). Slicing: ordered prefixes of channels and heads, centre crops of kernels, the
first blocks of a stage.

::

    space = spaces.space("mobilenetv3_small", input_shape)     # decision slots and their options
    spec = SubnetSpec(space, space.random(seed), input_shape, classes)
    w = supernet_params(space, input_shape, classes, seed)
    part = extract(w, spec)                                    # what a client receives, and trains as spec
    w = fuse(w, [part], [samples])                             # the server's fusion
    cost(spec, batch=32).flops                                 # known before anything is trained
"""
