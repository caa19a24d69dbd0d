"""A page to try the detector in a browser: `make demo`, or `python -m deepfd.demo`."""
