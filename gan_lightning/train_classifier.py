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

    from gan_lightning.data.images import image_shape
    from gan_lightning.metrics.classifier import Classifier, ClassifierTraining, save_weights
    from gan_lightning.run import build, memory
    from gan_lightning.run.config import silence_lightning

    silence_lightning()
    data = build.part(config, "data")
    data.prepare_data()
    data.setup()
    if list(image_shape(data.train)) != [1, 28, 28]:
        raise InputError("data.image_size, data.channels: must be 28 and 1 for this classifier")
    pl.seed_everything(config.seed, verbose=False)
    classifier = Classifier(num_classes=1 + int(data.train.labels.max()))
    try:
        training = ClassifierTraining(classifier, lr=config.lr, weight_decay=config.weight_decay)
    except ValueError as error:
        raise InputError(str(error)) from error
    memory.check_devices(config.trainer)
    trainer = build.part(config, "trainer", logger=False, enable_checkpointing=False)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    out.open("ab").close()  # fails before the training, not after it, if the file cannot be written
    trainer.fit(training, data)
    (metrics,) = trainer.test(training, data, verbose=False)
    print(f"accuracy {metrics['accuracy']:.4f} on {len(data.test):,} test images")
    print(f"{out}: SHA-256 {save_weights(classifier, out)}")


if __name__ == "__main__":
    main()
