"""The client side of the control plane: the agent's only network code.

Forbidden here: directories, processes, any decision about what an answer means for a run. Third
party exceptions end here, translated into ``errors``.
"""
