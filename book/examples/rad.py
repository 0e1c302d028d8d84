import numpy as np
from rad import gain, query, rad

p = np.random.default_rng(0).dirichlet([0.3] * 10, size=500)  # the student's probabilities
errors = 20  # of the teacher, at most, among what is asked

g = gain(p)
weights, value = rad(g, m=errors)
asked = query(weights, g, b=50, rng=np.random.default_rng(1))
print(f"{(weights > 0).sum()} images may be asked, value {value:.1f}; first: {asked[:5]}")
