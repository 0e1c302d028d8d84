import numpy as np
from lls import ddfa, match_classes

rng = np.random.default_rng(0)
shares = rng.dirichlet([0.5] * 3, size=8).T  # q(y|d): 3 classes, 8 domains
domains = rng.integers(8, size=4000)
labels = np.array([rng.choice(3, p=shares[:, d]) for d in domains])  # ddfa never sees them
posteriors = shares[labels] + rng.uniform(0, 0.1, (4000, 8))  # your classifier's q(d|x)
posteriors /= posteriors.sum(1, keepdims=True)

found = ddfa(posteriors, domains, num_classes=3, num_clusters=30)
print(match_classes(found.predict(posteriors, domains).argmax(1), labels, 3))
