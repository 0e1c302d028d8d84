import numpy as np
from lls import ddfa

rng = np.random.default_rng(0)
shares = rng.dirichlet([0.5] * 3, size=8).T  # q(y|d): 3 classes, 8 domains
domains = rng.integers(8, size=4000)
labels = np.array([rng.choice(3, p=shares[:, d]) for d in domains])  # which ddfa never sees
posteriors = (shares / shares.sum(1, keepdims=True))[labels]  # your classifier's q(d|x)

found = ddfa(posteriors, domains, num_classes=3, num_clusters=30)
print(found.p_y_given_d.round(2), found.predict(posteriors).argmax(1)[:10])
