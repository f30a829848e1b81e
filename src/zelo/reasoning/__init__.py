"""Teaching long reasoning with few examples (arXiv 2507.09850), for mathematics and for judging.

A comparison is a reasoning problem with a checkable answer: problems of both kinds go through the same code. A folder is the state
(`folder`); `zelo reasoning` has the commands.
"""
