"""The paper's experiment on MNIST (section 3)."""
