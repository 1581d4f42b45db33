"""The machine under a run: files, locks, processes, devices, signals, and callbacks for training progress."""
