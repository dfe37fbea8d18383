"""Reports as one HTML file each: of an experiment, and of several side by side."""
