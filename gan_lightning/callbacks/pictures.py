"""Pictures for loggers."""

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CometLogger, MLFlowLogger, TensorBoardLogger
from torch import Tensor
from torchvision.transforms.functional import to_pil_image


def log_picture(trainer: Trainer, tag: str, picture: Tensor) -> None:
    """Send a picture (3, H, W), uint8, to every logger that shows pictures, at the trainer's global step."""
    image, step = to_pil_image(picture.cpu()), trainer.global_step
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):  # Weights & Biases, SwanLab
            logger.log_image(tag, [image], step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, picture, step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, image, key=tag, step=step)
        elif isinstance(logger, CometLogger):
            logger.experiment.log_image(image, name=tag, step=step)
