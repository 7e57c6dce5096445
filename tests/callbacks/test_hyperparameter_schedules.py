from types import SimpleNamespace

import pytest
import torch

from gan_lightning.callbacks.hyperparameter_schedules import HyperparameterSchedules
from gan_lightning.errors import InputError
from gan_lightning.penalties import R1
from gan_lightning.schedules import LinearSchedule


def test_sets_gamma_and_momentum_by_the_step() -> None:
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.5) for _ in range(2)]
    trainer, gan = SimpleNamespace(global_step=5, optimizers=optimizers), SimpleNamespace(penalty=R1(gamma=1.0))
    schedules = HyperparameterSchedules(
        gamma=LinearSchedule(start=10, end=0, first=0, last=10),
        momentum=LinearSchedule(start=0.5, end=0.7, first=0, last=10),
    )
    schedules.on_train_batch_start(trainer, gan, None, 0)  # type: ignore[arg-type]
    assert gan.penalty.gamma == 5
    assert [optimizer.param_groups[0]["momentum"] for optimizer in optimizers] == [0.6, 0.6]


def test_missing_gamma_or_momentum_is_an_error() -> None:
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    trainer, gan = SimpleNamespace(optimizers=[adam]), SimpleNamespace(penalty=None)
    line = LinearSchedule(start=1, end=0, first=0, last=10)
    with pytest.raises(InputError, match=r"^callbacks\.schedules\.gamma: must be null .*penalty=r1"):
        HyperparameterSchedules(gamma=line).on_train_start(trainer, gan)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^callbacks\.schedules\.momentum: must be null .*optimizer=sgd"):
        HyperparameterSchedules(momentum=line).on_train_start(trainer, gan)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["gamma", "momentum"])
def test_a_number_is_no_schedule(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}=0.5: must be a schedule"):
        HyperparameterSchedules(**{name: 0.5})  # type: ignore[arg-type]
