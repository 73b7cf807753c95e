"""The command line: `nescio` and its commands, one file each."""

import io
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

import nescio
from nescio.cli import adapter, data, detect, key, policy
from nescio.cli.audit import audit
from nescio.cli.bake import bake
from nescio.cli.certificate import certificate
from nescio.cli.chat import chat
from nescio.cli.evaluate import evaluate
from nescio.cli.export import export
from nescio.cli.forget import forget
from nescio.cli.init import init
from nescio.cli.plugins import plugins
from nescio.cli.purge import purge
from nescio.cli.report import report
from nescio.cli.reproduce import reproduce
from nescio.cli.run import demo, run
from nescio.cli.scan import scan
from nescio.cli.scrub import scrub
from nescio.cli.serve import serve
from nescio.cli.subtract import subtract
from nescio.core.errors import NescioError

# Click's errors, or those of the Click which newer Typers bring along.
_UsageError: Any = typer.BadParameter.__base__
_ClickError: Any = _UsageError.__base__

app = typer.Typer(
    name="nescio",
    help="Make a chat model that learned personal data stop saying it, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    demo,
    init,
    run,
    bake,
    evaluate,
    audit,
    forget,
    certificate,
    export,
    report,
    purge,
    chat,
    serve,
    scan,
    scrub,
    subtract,
    reproduce,
    plugins,
):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(detect.app, name="detect")
app.add_typer(key.app, name="key")
app.add_typer(policy.app, name="policy")
app.add_typer(adapter.app, name="adapter")


def _version(wanted: bool) -> None:
    if wanted:
        print(nescio.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; bad input ends it with one line and exit code 2."""

    def fail(line: str, code: int = 2) -> None:
        Console(stderr=True, soft_wrap=True).print(f"nescio: {line}", highlight=False, markup=False, emoji=False)
        sys.exit(code)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a text may hold characters that the output's encoding lacks
    try:
        sys.exit(app(prog_name="nescio", standalone_mode=False))
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        command = error.ctx.command_path if error.ctx else "nescio"
        fail(f"{error.format_message().rstrip('.')}; see `{command} --help`")
    except _ClickError as error:
        fail(error.format_message(), error.exit_code)
    except NescioError as error:
        fail(str(error))
    except OSError as error:  # such as a folder that cannot be written, or a full disk
        place = f"{error.filename}: " if error.filename else ""
        fail(f"{place}{error.strerror or type(error).__name__}")
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("nescio: stopped; run the same command again to go on")
        sys.exit(130)
