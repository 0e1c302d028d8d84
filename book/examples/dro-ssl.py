import numpy as np
from dro_ssl import rss

rng = np.random.default_rng(0)
y, side = rng.choice([-1, 1], 10), rng.choice([-1, 1], 500)
X, U = rng.normal(size=(10, 20)), rng.normal(size=(500, 20))
X[:, 0], U[:, 0] = X[:, 0] + 2 * y, U[:, 0] + 2 * side  # two clouds along the first axis

theta = rss(X, y, U, gamma=[0.5], lam=[1.0])[0]
print(f"{(np.sign(U @ theta) == side).mean():.0%} of the unlabelled points are right")
