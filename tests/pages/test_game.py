"""The page that replays recorded runs, in a browser."""

import base64
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.losses import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein
from gan_lightning.pages import game
from gan_lightning.penalties import R1, WeightClipping, ZeroCentered

WHEN = [(0, 0), (1, 1), (1, 2), (1, 0), (2, 0), (4, 0)]  # step and update
MODES, SIDE, MARGIN = 8, 512, 10
SAMPLE = (200, 60)  # of the last frame, bytes


def frame(i: int, **changes: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(i)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    step, update = WHEN[i]
    tensors = {"samples": numbers(1, 2), "grid": numbers(9, 2), "map": numbers(4, 4), "arrows": numbers(1, 2).char()}
    values = {"low": 0.0, "high": 1.0, "longest": 4.0, "pull": 1.5, "loss_d": 1.3 - i / 10, "loss_g": 0.7 + i / 10}
    rest = {"modes": i, "leader": i, "good": i / 10, "spread": 0.9}
    return {"step": step, "update": update} | tensors | values | rest | changes


def recording(loss: Any = None, penalty: Any = None, **changes: Any) -> game.Recording:
    frames = [frame(i) for i in range(len(WHEN))]
    frames[-1]["samples"] = torch.tensor([SAMPLE], dtype=torch.uint8)
    arguments = {"k": 2, "simultaneous": False, "frames": frames} | changes
    return game.Recording(loss=loss or Minimax(), penalty=penalty, **arguments)


def render(*recordings: game.Recording) -> str:
    data = torch.tensor([[20, 30]], dtype=torch.uint8)
    return game.render(recordings, data, modes=MODES, every=2, often=20, first=1, points="1,000")


def content(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def test_frames_are_packed_as_differences() -> None:
    own = recording()
    packed = content(render(own))
    sizes = packed["sizes"]
    assert sizes == {"samples": 2, "grid": 18, "map": 16, "arrows": 2}
    rest = zlib.decompress(base64.b64decode(packed["recordings"][0]["packed"]))
    for name, size in sizes.items():
        layer = torch.frombuffer(bytearray(rest[: len(WHEN) * size]), dtype=torch.uint8).view(-1, size)
        rest = rest[len(WHEN) * size :]
        unpacked = layer.cumsum(0, dtype=torch.uint8)
        assert torch.equal(unpacked, torch.stack([f[name].flatten().view(torch.uint8) for f in own.frames]))
    assert not rest


def test_the_page_is_the_same_each_time_and_asks_for_nothing() -> None:
    page = render(recording(), recording(Wasserstein(), ZeroCentered(gamma=1)))
    assert page == render(recording(), recording(Wasserstein(), ZeroCentered(gamma=1)))
    assert "default-src 'none'" in page
    assert "$" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


class Own:
    """A loss of a user."""


@pytest.mark.parametrize(
    ("loss", "penalty", "name", "d", "g"),
    [
        (Minimax(), R1(gamma=0.5), "Minimax, R1", "[log D(x) + log(1 − D(G(z)))] − ", "log(1 − D(G(z)))"),
        (LeastSquares(), None, "Least squares", "−½ [(D(x) − 1)² + D(G(z))²]", "½ (D(G(z)) − 1)²"),
        (Hinge(), WeightClipping(bound=1), "Hinge, WeightClipping", "with WeightClipping", "−D(G(z))"),
        (NonSaturating(label_smoothing=0.1), None, "Non-saturating", "−NonSaturating", "NonSaturating"),
        (Own(), None, "Own", "−Own", "Own"),
    ],
)
def test_names_and_objectives(loss: Any, penalty: Any, name: str, d: str, g: str) -> None:
    own = recording(loss, penalty)
    assert own.name == name
    assert d in own.objectives()[0]
    assert g in own.objectives()[1]


def caption(*frames: tuple[int, int], good: float = 0.2) -> str:
    """Return the caption of frames with these modes, of which one has the most samples."""
    made = [frame(4, step=i, modes=modes, leader=leader, good=good) for i, (modes, leader) in enumerate(frames)]
    return recording(Wasserstein(), frames=made).caption(MODES)


def test_captions_say_what_the_frames_show() -> None:
    end = "at the end, 20 % of the samples are good."
    all_of_them = caption((0, 0), (8, 0), (7, 1), (8, 2), (8, 2), good=0.754)
    assert all_of_them == "G covers all 8 modes, from iteration 3 to the end, where 75 % of the samples are good."
    assert caption((8, 0), (1, 1), (1, 1)) == f"In the second half of the run, G covers 1 of 8 modes at a time; {end}"
    chased = caption((8, 0), (8, 1), (8, 2), (8, 3), (4, 4), (0, 9), (2, 5), (1, 5), (1, 4))
    assert chased.endswith(
        f", G covers 0 to 4 of 8 modes at a time, and the mode with the most samples changes 2 times; {end}"
    )
    assert caption((0, 0), (8, 0), (3, 0)) == "At the end, G covers 3 of 8 modes, and 20 % of the samples are good."
    guessing = recording(frames=[frame(4, modes=MODES, loss_d=1.38)])
    assert guessing.caption(MODES).endswith("; D's loss is 1.38, and that of guessing is log 4 = 1.39.")
    assert recording(ended="step 4: nan").caption(MODES).endswith(" The run ended early: step 4: nan.")


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page, which must neither complain nor ask for anything else."""
    path = tmp_path / "game.html"
    path.write_text(render(recording(), recording(Wasserstein(), ZeroCentered(gamma=1))), encoding="utf-8")
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    seen: list[str] = []
    opened.on("console", lambda message: seen.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: seen.append(str(error)))
    opened.on("request", lambda request: seen.append(request.url))
    opened.goto(path.as_uri())
    opened.locator("#when", has_text="Before").wait_for()
    yield opened
    assert seen == [path.as_uri()]
    opened.close()


def state(page: Any) -> tuple[str, str]:
    """Return which frame is shown: by the scrubber, and in words."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.input_value("#scrubber"), page.inner_text("#when")


def test_scrub_and_keys(page: Any) -> None:
    page.fill("#scrubber", "2")
    assert state(page) == ("2", "Iteration 1: after D's update 2 of 2")
    assert page.locator("li.now").count() == 2
    assert "update D by ascending" in page.locator("li.now").first.inner_text()
    page.click("#forward")
    assert state(page) == ("3", "Iteration 1: after G's update")
    assert "log(1 − D(G(z)))" in page.locator("li.now").last.inner_text()
    page.locator("#caption").click()
    for key, frame in (("ArrowLeft", 2), ("Home", 0), ("Shift+ArrowRight", 5), ("ArrowLeft", 4), ("End", 5)):
        page.keyboard.press(key)
        assert state(page)[0] == str(frame), key
    page.focus("#scrubber")
    page.keyboard.press("ArrowLeft")
    assert state(page)[0] == "4"
    assert page.inner_text("#modes") == "4 of 8"


def test_play(page: Any) -> None:
    page.select_option("#speed", "30")
    page.click("#play")
    assert page.inner_text("#play") == "Pause"
    page.locator("#play", has_text="Play").wait_for(timeout=5000)
    assert state(page) == ("5", "Iteration 4: after G's update")
    page.locator("#caption").click()
    page.keyboard.press("Space")
    assert page.inner_text("#play") == "Pause"
    page.keyboard.press("Space")
    assert page.inner_text("#play") == "Play"


def test_tabs_keep_the_moment(page: Any) -> None:
    page.fill("#scrubber", "2")
    page.focus("[role=tab]")
    page.keyboard.press("ArrowRight")
    page.locator("[role=tab][aria-selected=true]", has_text="Wasserstein").wait_for()
    assert state(page)[0] == "2"
    assert "[D(x) − D(G(z))]" in page.inner_text("#objective-d")
    assert page.inner_text("#map-label").endswith("high")


def pixel(page: Any, point: tuple[int, int]) -> list[int]:
    """Return the color of the plane where a point (bytes) is drawn."""
    state(page)
    return page.evaluate(
        """([x, y, margin]) => {
            const canvas = document.getElementById("plane"), side = canvas.getBoundingClientRect().width;
            const at = share => Math.round((margin + share * (side - 2 * margin)) * canvas.width / side);
            return [...canvas.getContext("2d").getImageData(at(x / 255), at(1 - y / 255), 1, 1).data];
        }""",
        [*point, MARGIN],
    )


def test_layers_and_where_points_are_drawn(page: Any) -> None:
    page.fill("#scrubber", "5")
    for layer in ("map", "data", "grid", "arrows"):
        page.set_checked(f"#show-{layer}", False)
    assert pixel(page, SAMPLE) == [0xA8, 0x00, 0x6D, 255]
    assert pixel(page, (SAMPLE[0], 255 - SAMPLE[1]))[3] == 0
    page.set_checked("#show-samples", False)
    assert pixel(page, SAMPLE)[3] == 0
    page.set_checked("#show-map", True)
    assert pixel(page, SAMPLE)[3] == 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(browser: Any, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "game.html"
    path.write_text(render(recording()), encoding="utf-8")
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    page.goto(path.as_uri())
    page.locator("#when", has_text="Before").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.close()
