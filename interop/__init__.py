"""Batch norm inside other libraries, on their arrays: ``normspec.interop.torch``, ``normspec.interop.jax``.

Each module needs its library; importing this package loads none.
"""
