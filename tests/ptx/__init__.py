"""A GPU that computes what PTX says, in NumPy: what the compiler made of kernels runs, not their Python.

The simulator runs the primitives' Python twins; here their PTX runs, and the launch that a stub of a driver was asked
for. All threads of some blocks go on together, those at the earliest instruction first. What a GPU may do in silence is
an error: an access outside of an allocation, or not aligned; a read of shared memory that nobody wrote; two threads at
one word without a barrier between them; a shuffle or a barrier that part of a warp does not reach; a block that ends
while another one may read its shared memory.

``syntax`` reads PTX, ``arithmetic`` has the instructions that compute, ``memory`` who was where, ``machine`` runs.
"""
