"""What all tests share."""

import os

# One thread for each worker: several run side by side, and sums do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests never write into the stored results, and never read data that is not shipped.
os.environ.pop("LABUTILS_PROFILE", None)
os.environ.pop("LABUTILS_RESULTS", None)
