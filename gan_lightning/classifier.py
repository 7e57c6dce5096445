"""Train the classifier that the metrics look through: ``python -m gan_lightning.classifier [data=...] [out=FILE]``."""

from hashlib import sha256
from pathlib import Path

from omegaconf import DictConfig

from gan_lightning.doors import door
from gan_lightning.errors import InputError


@door("classifier")
def main(config: DictConfig) -> None:
    """Train, test, write the weights and tell their SHA-256."""
    out = Path(config.out)
    if out.suffix != ".safetensors":
        raise InputError(f"out={out}: must end in .safetensors")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    there = out.exists()
    out.open("ab").close()  # what cannot be written is told before, not after, the training
    if not there:
        out.unlink()

    import pytorch_lightning as pl
    from hydra.utils import instantiate
    from safetensors.torch import save_file

    from gan_lightning.classification import ClassifierTraining
    from gan_lightning.networks.classifier import Classifier
    from gan_lightning.train import quiet

    quiet()
    pl.seed_everything(config.seed, verbose=False)
    data = instantiate(config.data, image_shape=[1, 28, 28], _convert_="all")
    classifier = Classifier()
    training = ClassifierTraining(classifier, lr=config.lr, weight_decay=config.weight_decay)
    trainer = instantiate(config.trainer, logger=False, enable_checkpointing=False, _convert_="all")
    trainer.fit(training, data)
    (figures,) = trainer.test(training, data, verbose=False)
    print("".join(f"{name} {value:.4f}\n" for name, value in figures.items()), end="")
    save_file(classifier.cpu().state_dict(), out)
    print(f"{out}: {out.stat().st_size:,} bytes, SHA-256 {sha256(out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
