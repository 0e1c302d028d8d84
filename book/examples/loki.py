import numpy as np
from loki import arg_max, cycle, loki

p = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])  # of a classifier that knows three hours

observed = [0, 2, 4]  # of the twelve on a dial
print(arg_max(p, observed), loki(p, cycle(12), observed))
