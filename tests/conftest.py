"""What holds for every test."""

import os

# Read when the Hub's client is imported, by whichever test comes first; nothing here may wait for a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
