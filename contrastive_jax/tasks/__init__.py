"""What several experiments on one kind of data share.

Needs the extra `experiments`.
"""
