"""The page of a GAN, as a browser shows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.data.images import InMemoryImages, to_pixels
from gan_lightning.ema import EMA
from gan_lightning.errors import InputError
from gan_lightning.gan import GAN
from gan_lightning.losses import Hinge
from gan_lightning.networks import dcgan, maxout, mlp, resnet
from gan_lightning.pages import model_page
from gan_lightning.priors import Normal, Signs, Uniform
from gan_lightning.run import build, config
from gan_lightning.run.checkpoint import Checkpoint
from gan_lightning.sampling import generate, repeat_labels
from tests.helpers import Unconditional, command, tiny_gan
from tests.pages.test_graph import disturbed

LATENT = 6
CONVOLUTIONAL = {"width": 4, "max_width": 8}
PARTS: dict[str, dict[str, Any]] = {
    "mlp": {
        "image_shape": [1, 8, 8],
        "G": (mlp.Generator, {"widths": [8, 16], "negative_slope": 0.2, "batch_norm_eps": 0.8}),
        "D": (mlp.Discriminator, {"widths": [8], "negative_slope": 0.2}),
        "prior": Normal(dim=LATENT),
        "ema": lambda network: EMA(disturbed(network), half_life=1, rampup_ratio=1),
        "latent_scale": 1.2,
    },
    "maxout": {
        "image_shape": [1, 8, 8],
        "G": (maxout.Generator, {"widths": [8, 8], "weight_bound": 0.5}),
        "D": (
            maxout.Discriminator,
            {"units": [6], "pieces": 3, "input_dropout": 0.2, "hidden_dropout": 0.5, "weight_bound": 0.5},
        ),
        "prior": Uniform(dim=LATENT),
        "num_classes": 3,
    },
    "dcgan": {
        "image_shape": [3, 9, 8],
        "G": (dcgan.Generator, {**CONVOLUTIONAL, "weight_init": "default"}),
        "D": (
            dcgan.Discriminator,
            {
                **CONVOLUTIONAL,
                "weight_init": "default",
                "negative_slope": 0.2,
                "batch_norm": True,
                "spectral_norm": True,
            },
        ),
        "prior": Signs(dim=LATENT, signs=2),
        "num_classes": 2,
        "loss": Hinge(),
    },
    "resnet": {
        "image_shape": [1, 17, 16],
        "G": (resnet.Generator, {**CONVOLUTIONAL, "blocks": 1, "negative_slope": 0.2}),
        "D": (resnet.Discriminator, {**CONVOLUTIONAL, "blocks": 1, "negative_slope": 0.2, "hidden": 5}),
        "prior": Normal(dim=LATENT),
    },
}


def random_gan(name: str) -> GAN:
    """Return an untrained GAN of small networks whose weights are all in use."""
    torch.manual_seed(0)
    parts = PARTS[name]
    shared = {"image_shape": parts["image_shape"], "num_classes": parts.get("num_classes", 0)}
    (generator, g_arguments), (discriminator, d_arguments) = parts["G"], parts["D"]
    networks = [generator(latent_dim=LATENT, **g_arguments, **shared), discriminator(**d_arguments, **shared)]
    for network in networks:
        for weight in network.parameters():
            if not weight.any():
                nn.init.normal_(weight, std=0.3)
    given = {key: parts[key] for key in ("prior", "ema", "latent_scale", "num_classes", "loss") if key in parts}
    return tiny_gan(generator=disturbed(networks[0]), discriminator=disturbed(networks[1]), **given).eval()


def random_data(gan: GAN) -> model_page.Data:
    """Return random images as a data set's, of which the first training images are the GAN's own."""
    samples = to_pixels(generate(gan, model_page.noise(gan, 24, seed=0), repeat_labels(gan, 24)))
    other = torch.randint(0, 256, (30, *samples.shape[1:]), dtype=torch.uint8)
    labels = torch.arange(30) % (gan.num_classes or 10)
    return model_page.Data(InMemoryImages(torch.cat([other, samples]), torch.zeros(54)), InMemoryImages(other, labels))


class Opened:
    """Writes the pages of random GANs and opens them; collects errors, and requests other than that of the page.

    Args:
        browser: The browser.
        folder: For the pages.
    """

    def __init__(self, browser: Any, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.problems: list[str] = []
        self.pages: dict[Any, Any] = {}

    def __call__(self, name: str, **arguments: Any) -> Any:
        """Return the page of :func:`random_gan`, the same one each time."""
        key = (name, *arguments.items())
        if key not in self.pages:
            gan, path = random_gan(name), self.folder / f"{len(self.pages)}.html"
            given = {"subject": "noise", "weights": "fp16", "data": random_data(gan)} | arguments
            model_page.write(gan, path, **given)
            page = self.pages[key] = self.browser.new_page(viewport={"width": 400, "height": 800})
            page.on("console", lambda message: self.problems.append(message.text))
            page.on("pageerror", lambda error: self.problems.append(str(error)))
            page.on("request", lambda request: request.url == path.as_uri() or self.problems.append(request.url))
            page.goto(path.as_uri())
            page.wait_for_selector("#about:not(:empty)", state="attached")  # the last thing that is drawn
        return self.pages[key]


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Return a function that writes the page of a GAN and opens it."""
    return Opened(browser, tmp_path_factory.mktemp("pages"))


@pytest.fixture(autouse=True)
def _no_problems(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "opened" in request.fixturenames:
        problems = request.getfixturevalue("opened").problems
        found = [*problems]
        problems.clear()
        assert found == []


def drawn(page: Any, selector: str) -> Tensor:
    """Return what a canvas shows, (3, H, W), bytes as floats."""
    read = """selector => {
        const canvas = document.querySelector(selector), {width, height} = canvas;
        return {width, height, data: Array.from(canvas.getContext("2d").getImageData(0, 0, width, height).data)};
    }"""
    found = page.evaluate(read, selector)
    pixels = torch.tensor(found["data"], dtype=torch.float32).view(found["height"], found["width"], 4)
    return pixels[..., :3].permute(2, 0, 1)


def settle(page: Any) -> None:
    """Wait until all is drawn."""
    page.evaluate("() => new Promise(done => later('settled', done))")


@pytest.mark.parametrize(("name", "weights"), [*((name, "fp16") for name in PARTS), ("mlp", "int8")])
def test_the_page_generates_and_judges_as_pytorch_does(opened: Any, name: str, weights: str) -> None:
    gan, page = random_gan(name), opened(name, weights=weights)
    z, labels = model_page.noise(gan, 4, seed=0), repeat_labels(gan, 4)
    wanted, given = generate(gan, z, labels), [0] * 4 if labels is None else labels.tolist()
    assert torch.allclose(torch.tensor(page.evaluate("() => model.noise(0, 4).map(z => Array.from(z))")), z, atol=1e-5)
    images = page.evaluate("([z, y]) => z.map((z, i) => Array.from(model.generate(z, y[i])))", [z.tolist(), given])
    bound = {"fp16": 2 / 127.5, "int8": 8 / 127.5}[weights]
    assert (torch.tensor(images).view_as(wanted) - wanted).abs().max() < bound
    logits = page.evaluate("([x, y]) => x.map((x, i) => model.logit(x, y[i]))", [wanted.flatten(1).tolist(), given])
    with torch.inference_mode():
        judged = gan.discriminator(wanted, labels).flatten()
    assert torch.allclose(torch.tensor(logits), judged, atol={"fp16": 0.01, "int8": 0.1}[weights], rtol=0.01)
    for i in range(4):
        shown = drawn(page, f"#grid > :nth-child({i + 1}) canvas")
        assert (shown - to_pixels(wanted[i]).float()).abs().max() <= bound * 128


@pytest.fixture(scope="module")
def page(opened: Any) -> Any:
    """Return the page of a GAN with classes."""
    return opened("maxout", weights="fp16")


def test_the_seed_and_the_class_determine_the_samples(page: Any) -> None:
    first = drawn(page, "#grid > :nth-child(2) canvas")
    page.click("#new")
    settle(page)
    assert page.input_value("#seed") == "1"
    assert not torch.equal(drawn(page, "#grid > :nth-child(2) canvas"), first)
    assert not page.is_visible("#neighbor")
    page.fill("#seed", "0")
    settle(page)
    assert torch.equal(drawn(page, "#grid > :nth-child(2) canvas"), first)
    page.select_option("#class", "2")
    settle(page)
    assert page.inner_text("#grid > :nth-child(2)").strip() == "2"
    assert not torch.equal(drawn(page, "#grid > :nth-child(2) canvas"), first)
    page.select_option("#class", "all")
    settle(page)


def test_a_selected_sample_has_its_neighbor_and_can_be_changed(page: Any) -> None:
    page.click("#grid > :nth-child(2)")
    page.keyboard.press("ArrowDown")
    settle(page)
    sample = drawn(page, "#grid > :nth-child(8) canvas")
    assert page.get_attribute("#grid > :nth-child(8)", "aria-checked") == "true"
    assert torch.equal(drawn(page, "#current"), sample)
    assert (drawn(page, "#neighbor") - sample).abs().max() <= 2  # the training set contains the samples
    said = page.inner_text("#current-d")
    page.focus("#sliders .slider input")
    page.keyboard.press("Home")
    settle(page)
    assert not torch.equal(drawn(page, "#current"), sample)
    assert (drawn(page, "#current") - drawn(page, "#sliders .slider canvas")).abs().max() <= 1
    assert page.inner_text("#current-d") != said
    page.click("#reset")
    settle(page)
    assert torch.equal(drawn(page, "#current"), sample)


def test_a_walk_leads_from_a_to_b(page: Any) -> None:
    page.click("#grid > :nth-child(5)")
    page.click("[data-slot=b]")
    page.focus("#t")
    for key, sample in (("End", 5), ("Home", 1)):
        page.keyboard.press(key)
        settle(page)
        assert torch.equal(drawn(page, "#walk-image"), drawn(page, f"#grid > :nth-child({sample}) canvas"))
    page.click("#play")
    page.wait_for_timeout(150)
    page.click("#play")
    assert float(page.inner_text("#t-value")) > 0
    assert page.inner_text("#play") == "Play"


def test_a_plane_has_samples_at_its_corners(page: Any) -> None:
    page.click("#grid > :nth-child(7)")
    page.click("[data-slot=f]")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 2 * box["width"], box["y"] + 2 * box["height"], steps=3)
    page.mouse.up()
    settle(page)
    assert page.inner_text("#place") == "100 % right, 100 % down"
    assert torch.equal(drawn(page, "#plane-image"), drawn(page, "#grid > :nth-child(7) canvas"))
    page.focus("#map")
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    settle(page)
    assert torch.equal(drawn(page, "#plane-image"), drawn(page, "[data-slot=e] canvas"))


def test_you_are_d(page: Any) -> None:
    for key in "rgrg":
        image = drawn(page, "#question")
        page.keyboard.press(key)
        page.keyboard.press(key)  # counts once
        said = page.inner_text("#answer")
        assert said.startswith("Right" if ("it is real" in said) == (key == "r") else "Wrong")
        assert "D(x) = " in page.inner_text("#question-d")
        page.keyboard.press("n")
        assert not page.is_visible("#question-d")
    assert page.inner_text("#your-score").endswith(" of 4")
    assert page.inner_text("#d-score").endswith(" of 4")
    assert torch.equal(drawn(page, "#past canvas"), image)
    page.click("#say-real")
    assert page.evaluate("document.activeElement.id") == "next"


def test_d_judges_a_drawing(page: Any) -> None:
    page.locator("#pad").scroll_into_view_if_needed()
    page.click("#clear")
    settle(page)
    assert drawn(page, "#pad").unique().numel() == 1
    said, box = page.inner_text("#pad-d"), page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"], steps=3)
    page.mouse.up()
    settle(page)
    pointed = drawn(page, "#pad")
    assert (pointed[0, 4] - pointed[0, 0]).abs().max() > 100  # a stroke is not even a pixel wide
    assert page.inner_text("#pad-d") != said
    page.click("#clear")
    page.focus("#pad")
    for key in (" ", "ArrowRight", "ArrowRight", " "):
        page.keyboard.press(key)
    page.focus("#clear")
    settle(page)
    assert drawn(page, "#pad").unique().numel() > 1
    page.click("#grid > :nth-child(3)")
    page.click("#fake-image")
    settle(page)
    assert torch.equal(drawn(page, "#pad"), drawn(page, "#grid > :nth-child(3) canvas"))


def test_a_page_of_colors_and_of_another_loss(opened: Any) -> None:
    page = opened("dcgan", weights="fp16")
    assert not page.is_visible("#draw")
    assert "the median for 30 real and 30 generated images" in page.inner_text("#about")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("missing", ["data", "discriminator"])
def test_parts_that_need_what_is_missing_are_left_out(opened: Any, missing: str) -> None:
    page = opened("mlp", **{missing: None})
    assert [page.is_visible(part) for part in ("#game", "#neighbor", "#draw")] == [
        False,
        missing != "data",
        missing == "data",
    ]
    assert page.is_visible("#walk-image")


def test_the_default_model_is_at_most_6_mb(tmp_path: Path) -> None:
    gan = build.gan(config.compose("train", [])).eval()
    data = InMemoryImages(torch.zeros(100, 1, 28, 28, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64))
    said = model_page.write(gan, tmp_path / "page.html", subject="", weights="fp16", data=model_page.Data(data, data))
    assert float(said.rpartition(": ")[2].removesuffix("/255")) < 0.5
    assert (tmp_path / "page.html").stat().st_size < 6e6


def test_the_directions_are_those_of_the_largest_change() -> None:
    class Stretch(nn.Module):
        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            return (z * torch.tensor([0.1, 3.0, 0.2])).view(-1, 1, 3, 1)

    found = model_page.directions(tiny_gan(generator=nn.Sequential(nn.Linear(1, 1)), ema=lambda _: Stretch()), 2)
    torch.testing.assert_close(found.abs(), torch.eye(3)[[1, 2]], atol=0.1, rtol=0)


class Points(Unconditional):
    """A generator of points of the plane."""


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (
            {"generator": Points(nn.Linear(3, 2), nn.Unflatten(1, (2, 1, 1)))},
            "generates points; see experiment=game2d",
        ),
        ({"generator": Unconditional(nn.Linear(3, 32), nn.Unflatten(1, (2, 4, 4)))}, "1 or 3 channels"),
        (
            {"generator": Unconditional(nn.Linear(3, 16), nn.Softmax(1), nn.Unflatten(1, (1, 4, 4)))},
            r"cannot run aten\._softmax; use out=FILE\.onnx",
        ),
        ({"prior": type("Own", (Normal,), {})(dim=3)}, "draws from Normal, Uniform or Signs, not Own"),
    ],
)
def test_what_a_page_cannot_show_is_one_line(tmp_path: Path, parts: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        model_page.write(tiny_gan(**parts).eval(), tmp_path / "page.html", subject="", weights="fp16")


def test_export_writes_a_page(run: Path, tmp_path: Path) -> None:
    done = command("export", f"checkpoint={run}", "out=a/page.html", "weights=int8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a/page.html (0.")
    assert "trained on MNIST for 12 steps" in (tmp_path / "a" / "page.html").read_text("utf-8")


def test_export_says_why_a_page_has_no_real_images(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_data(*_: Any, **__: Any) -> None:
        raise InputError("data.root=x: no such folder")

    monkeypatch.setattr(Checkpoint, "data", no_data)
    done = command("export", f"checkpoint={run}", "out=page.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "The page has no real images: data.root=x: no such folder\n")
    done = command("export", f"checkpoint={run}", "out=page.html", "data.root=x", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "data.root=x: no such folder\n")
