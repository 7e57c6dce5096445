from types import SimpleNamespace

import pytest
import torch

from gan_lightning.callbacks.schedules import Schedules
from gan_lightning.errors import InputError
from gan_lightning.penalties import R1
from gan_lightning.schedules import Linear


def test_sets_gamma_and_momentum_by_the_step() -> None:
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.5) for _ in range(2)]
    trainer, gan = SimpleNamespace(global_step=5, optimizers=optimizers), SimpleNamespace(penalty=R1(gamma=1.0))
    schedules = Schedules(
        gamma=Linear(start=10, end=0, first=0, last=10), momentum=Linear(start=0.5, end=0.7, first=0, last=10)
    )
    schedules.on_train_batch_start(trainer, gan, None, 0)  # type: ignore[arg-type]
    assert gan.penalty.gamma == 5
    assert [optimizer.param_groups[0]["momentum"] for optimizer in optimizers] == [0.6, 0.6]


def test_what_is_not_there_cannot_be_set() -> None:
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    trainer, gan = SimpleNamespace(optimizers=[adam]), SimpleNamespace(penalty=None)
    line = Linear(start=1, end=0, first=0, last=10)
    with pytest.raises(InputError, match="penalty=none has no gamma"):
        Schedules(gamma=line).on_train_start(trainer, gan)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="optimizer=sgd has one"):
        Schedules(momentum=line).on_train_start(trainer, gan)  # type: ignore[arg-type]
