"""Deep supervision: carry, losses, optimizers, and the LightningModule around them."""
