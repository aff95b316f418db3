"""Kernels as plain loops, compiled by Numba (the extra ``fast``): each array is read once.

A kernel stands here only beside its reference and its NumPy form, under the same file name. It is
ordinary Python, slow but right where it is run without a compiler, and gets contiguous arrays of
one dtype, float32 or float64, and writes its results into arrays that it is given.
"""
