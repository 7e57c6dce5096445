"""Train the classifier behind the metrics: ``python -m gan_lightning.train_classifier [data=...] [out=FILE]``."""

from pathlib import Path

from omegaconf import DictConfig

from gan_lightning.errors import InputError
from gan_lightning.run.cli import command


@command("train_classifier")
def main(config: DictConfig) -> None:
    """Train and test the classifier, write its weights and print their SHA-256."""
    out = Path(config.out)
    if out.suffix != ".safetensors":
        raise InputError(f"out={out}: must end in .safetensors")

    import pytorch_lightning as pl

    from gan_lightning.metrics.classifier import Classifier, ClassifierTraining, save_weights
    from gan_lightning.run import build, memory
    from gan_lightning.run.config import silence_lightning

    silence_lightning()
    pl.seed_everything(config.seed, verbose=False)
    classifier = Classifier()
    try:
        training = ClassifierTraining(classifier, lr=config.lr, weight_decay=config.weight_decay)
    except ValueError as error:
        raise InputError(str(error)) from error
    data = build.part(config, "data", image_shape=[1, 28, 28])
    memory.check_devices(config.trainer)
    trainer = build.part(config, "trainer", logger=False, enable_checkpointing=False)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    out.open("ab").close()  # fails before the training, not after it, if the file cannot be written
    trainer.fit(training, data)
    (metrics,) = trainer.test(training, data, verbose=False)
    print(f"accuracy {metrics['accuracy']:.4f}\n{out}: SHA-256 {save_weights(classifier, out)}")


if __name__ == "__main__":
    main()
