"""The engine: where tensors appear. One loop runs any plan; registers hold the numbers."""
