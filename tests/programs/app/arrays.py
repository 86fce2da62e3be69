import numpy as np


def build(n):
    return np.arange(n * 1000, dtype="f8").reshape(n, 1000)


def square(a):
    return a * a


rows = build(3000)
squares = square(rows)
print(squares.sum(), (rows.T @ rows[:, :200]).shape)
