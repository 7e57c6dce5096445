"""All commands under one name: ``python -m gan_lightning COMMAND ...``, or ``gan-lightning COMMAND ...``."""

import difflib
import runpy
import sys

from gan_lightning import __version__
from gan_lightning.run.completion import BASH, answers, commands
from gan_lightning.run.config_files import CONF, content


def main() -> None:
    """Run a command, or list them."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in commands():
        sys.argv[1:] = arguments
        runpy.run_module(f"gan_lightning.{name}", run_name="__main__", alter_sys=True)
    elif name in ("--help", "-h"):
        print(overview())
    elif name == "--version":
        print(f"gan-lightning {__version__}")
    elif name == "completion":
        print(BASH.strip())
    elif name == "complete":  # what the shell asks
        print("\n".join(answers(" ".join(arguments))))
    else:
        close = difflib.get_close_matches(name, commands(), n=1)
        meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(commands())}"
        sys.exit(f"{name}: no such command; {meant}")


def overview() -> str:
    """Return the commands with a line on each."""
    lines = ["Commands; --help behind one explains it, as in gan-lightning train --help:"]
    for name in commands():
        header = content(CONF / f"{name}.yaml")["hydra"]["help"]["header"]
        lines.append(f"  {name:18}{header.partition('.')[0]}.")
    lines += ["", "gan-lightning COMMAND and python -m gan_lightning.COMMAND are the same. Completion in a shell:"]
    return "\n".join([*lines, '  eval "$(python -m gan_lightning completion)"', "", f"Version {__version__}"])


if __name__ == "__main__":
    main()
