"""MNIST: the paper's first experiment (section 3) on the engine that speech uses."""
