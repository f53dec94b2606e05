"""What makes an update of a batch of rollouts: advantages, the loss, the optimizer steps."""
