"""The HMM state of every frame, and the senones that the states are tied to."""
