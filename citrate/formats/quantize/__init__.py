"""Weight encoders, compiled by numba on first use: the bytes of ggml's and MLX's own encoders, several times faster.

::

    jit.py        how kernels are compiled, vectorised and cached
    primitives.py reinterpreted bits, nearest integer
    rounding.py   half precision; loading a tile
    simple.py     F16, Q8_0, Q5_0, Q5_1: one scale a block, no search
    k_min.py      Q4_K, Q5_K: scale and minimum, searched; k_min_pack.py writes what it found
    k_sym.py      Q6_K: symmetric, searched
    affine.py     MLX's groups of 4 and 8 bits
    error.py      the error of decoded weights, a block at a time

Importing this package costs nothing; its modules import numba.
"""
