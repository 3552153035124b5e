"""``gpu-launcher lab``: a real Kubernetes control plane with real Karpenter on this machine."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import errno
import json
import shlex
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gpu_launcher.lab.paths import LabError, LabPaths, read_json
from gpu_launcher.lab.settings import FLAGS, LabSettings

if TYPE_CHECKING:
    from gpu_launcher.lab.build import Servers

_DEFAULT_NAME = "default"
# What is wrong with the machine, not with the program -> what helps.
_REMEDIES = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room in your quota",
    errno.EACCES: "make it writable, or set XDG_STATE_HOME and XDG_CACHE_HOME to directories that are",
    errno.EROFS: "set XDG_STATE_HOME and XDG_CACHE_HOME to directories that are writable",
}


def register(subparsers: Any) -> None:
    """Add ``lab`` and its subcommands."""
    parser = subparsers.add_parser("lab", help="a Kubernetes control plane with Karpenter on this machine")
    commands = parser.add_subparsers(dest="lab_command", required=True, metavar="command")
    _command(commands, "build", "build the servers once into the cache", _build)
    up = _command(commands, "up", "start a lab and wait until it is ready", _up, named=True)
    add_settings_flags(up)
    up.add_argument("--foreground", action="store_true", help="stay attached; Ctrl-C ends the lab")
    down = _command(commands, "down", "stop a lab and remove its directory", _down, named=True)
    down.add_argument("--keep", action="store_true", help="keep the directory with its logs")
    down.add_argument("--all", action="store_true", help="every lab of this user")
    status = _command(commands, "status", "what runs, where its logs are", _status, named=True)
    status.add_argument("--json", action="store_true", help="as JSON")
    _command(commands, "kubeconfig", "print the path of the administrator's kubeconfig", _kubeconfig, named=True)
    _command(commands, "list", "all labs of this user", _list)
    faults = _command(commands, "faults", "show the faults switched on, or switch them", _faults, named=True)
    faults.add_argument("--set", metavar="FILE", help="replace them by this JSON file; - reads standard input")
    faults.add_argument("--clear", action="store_true", help="switch all faults off")


def add_settings_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every delay and size of ``LabSettings``."""
    parser.add_argument("--fast", action="store_true", help="short delays, for tests; other flags still win")
    for flag, (name, parse, meaning) in FLAGS.items():
        parser.add_argument(flag, dest=name, type=_typed(parse), metavar=flag[2:].upper(), help=meaning)


def settings_from(arguments: argparse.Namespace) -> LabSettings:
    """The settings that the flags of ``add_settings_flags`` ask for."""
    given = {name: getattr(arguments, name) for name, _, _ in FLAGS.values() if getattr(arguments, name) is not None}
    return LabSettings.fast(**given) if arguments.fast else dataclasses.replace(LabSettings(), **given)


def guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """``run`` with the lab's errors as words and status 1, and SIGTERM treated like Ctrl-C."""

    def guard(arguments: argparse.Namespace) -> int:
        # Also where a shell started this in the background with Ctrl-C ignored: a lab must be endable.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # asyncio turns SIGINT into an orderly cancellation, and only SIGINT.
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            return run(arguments)
        except LabError as error:
            print(f"gpu-launcher: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            if error.errno not in _REMEDIES:
                raise
            print(f"gpu-launcher: {error}; {_REMEDIES[error.errno]}", file=sys.stderr)
            return 1

    return guard


def say(text: str) -> None:
    """Tell the person; standard output is for what scripts read."""
    print(text, file=sys.stderr, flush=True)


def _command(
    commands: Any, name: str, meaning: str, run: Callable[[argparse.Namespace], int], *, named: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=meaning)
    if named:
        parser.add_argument("--name", default=_DEFAULT_NAME, help=f"the lab's name (default: {_DEFAULT_NAME})")
    parser.set_defaults(run=guarded(run))
    return parser


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    # argparse hides the message of a ValueError, and it is the message that helps.
    def typed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def build_servers() -> Servers:
    """The built servers. Outside of any event loop, so that Ctrl-C ends a build and not only the wait for it."""
    from gpu_launcher.lab.build import Build

    return Build().ensure()


def _build(_: argparse.Namespace) -> int:
    for directory in build_servers().directories.values():
        print(directory)
    return 0


def _up(arguments: argparse.Namespace) -> int:
    from gpu_launcher.lab import handle

    paths = LabPaths.named(arguments.name)
    settings = settings_from(arguments)
    running = handle.running_state(paths)
    if running is not None and running["stage"] == "ready" and not arguments.foreground:
        say(f"Lab {paths.name!r} runs already, with the settings it was started with")
        print(_export(paths))
        return 0
    build_servers()

    async def up() -> int:
        lab = await handle.start(paths, settings, bound=arguments.foreground, say=say)
        say(f"Lab {lab.name!r} is ready after {lab.state['seconds']} s")
        print(_export(paths), flush=True)
        if arguments.foreground:
            keep = False
            try:
                await lab.ended()
            except LabError:
                keep = True  # the error points to a log
                raise
            finally:
                await handle.stop(paths, keep=keep)
        return 0

    return asyncio.run(up())


def _export(paths: LabPaths) -> str:
    return f"export KUBECONFIG={shlex.quote(str(paths.kubeconfig))}"


def _down(arguments: argparse.Namespace) -> int:
    from gpu_launcher.lab import handle

    chosen = [paths for paths, _ in handle.all_labs()] if arguments.all else [LabPaths.named(arguments.name)]

    async def down() -> None:
        for paths in chosen:
            there = paths.directory.exists()
            ran = await handle.stop(paths, keep=arguments.keep)
            say(f"Lab {paths.name!r} {'is down' if ran else 'did not run; cleaned up' if there else 'did not run'}")

    asyncio.run(down())
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from gpu_launcher.lab import handle

    paths = LabPaths.named(arguments.name)
    running = handle.running_state(paths)
    # Without a living supervisor the file tells how the lab ended, if it did in an orderly way.
    last = read_json(paths.state) or {}
    state = running or {**last, "stage": last["stage"] if last.get("stage") in ("failed", "stopped") else "down"}
    if arguments.json:
        print(json.dumps(state, indent=1, sort_keys=True))
    else:
        _print_status(paths, state)
    return 0 if state["stage"] == "ready" else 1


def _print_status(paths: LabPaths, state: dict[str, Any]) -> None:
    print(f"lab {paths.name}: {state['stage']}")
    if state.get("error"):
        print(state["error"])
    if state["stage"] not in ("ready", "starting", "stopping"):
        return
    for name, url in sorted(state.get("urls", {}).items()):
        print(f"  {name:24} {url}")
    for name, process in sorted(state.get("processes", {}).items()):
        print(f"  {name:24} pid {process['pid']:<8} {process['log']}")
    print(f"  {'kubeconfig':24} {paths.kubeconfig}")


def _kubeconfig(arguments: argparse.Namespace) -> int:
    from gpu_launcher.lab.handle import Lab

    print(Lab.attach(arguments.name).kubeconfig)
    return 0


def _list(_: argparse.Namespace) -> int:
    from gpu_launcher.lab import handle

    for paths, state in handle.all_labs():
        print(f"{paths.name:24} {state['stage'] if state else 'down':10} {paths.directory}")
    return 0


def _faults(arguments: argparse.Namespace) -> int:
    from gpu_launcher.lab.handle import Lab
    from gpu_launcher.lab.paths import write_json

    lab = Lab.attach(arguments.name)
    if arguments.clear:
        write_json(lab.paths.faults, {})
    elif arguments.set:
        write_json(lab.paths.faults, _read_faults(arguments.set))
    print(json.dumps(read_json(lab.paths.faults) or {}, indent=1, sort_keys=True))
    return 0


def _read_faults(source: str) -> dict[str, Any]:
    from gpu_launcher.lab.faults import FaultSet

    try:
        with open(0 if source == "-" else source, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        raise LabError(f"--set {source}: {error}") from None
    if not isinstance(document, dict):
        raise LabError(f'--set {source}: a JSON object is needed, such as {{"capacity": [...]}}')
    return FaultSet.from_document(document).document()
