"""Adapters to frameworks. Each needs its extra: pip install "zoocache[django]"."""
