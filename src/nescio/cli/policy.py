"""`nescio policy …`: what a policy file lets callers do, and what it does with a request."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nescio.core.errors import NescioError

app = typer.Typer(help="What a policy file of the server lets callers do.", no_args_is_help=True)
_File = Annotated[Path, typer.Argument(metavar="FILE", help="The policy file (YAML).")]


@app.command()
def check(file: _File) -> None:
    """Say in words what each key may do, and warn of holes. A mistake in the file is an error."""
    from nescio.serve.policy import load_policies
    from nescio.serve.policy_words import described, holes

    policies = load_policies(file, None)
    print("\n".join(described(policies)))
    warnings = list(holes(policies))
    print(f"\n{len(warnings)} warnings" if warnings else "\nno warnings")
    for warning in warnings:
        print(f"  {warning}")


@app.command(name="try")
def try_request(
    file: _File,
    request: Annotated[
        Path, typer.Argument(metavar="REQUEST", help="Body of a request (JSON); - reads standard input.")
    ],
    policy: Annotated[str, typer.Option(help="Policy whose caller asks.")] = "default",
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the API key that asks, instead of --policy.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name under which the base model is served.")] = None,
    answer: Annotated[
        str | None, typer.Option(help="A model's answer: say what the audit lets through. Loads the detector.")
    ] = None,
) -> None:
    """Say what the server would do with a request: refuse it, or how it would be answered. Exit code 1 if refused."""
    from nescio.serve.dry_run import tried
    from nescio.serve.errors import ApiError
    from nescio.serve.policy import Caller, load_policies

    policies = load_policies(file, None)
    body = _body(request)
    try:
        if key_env is not None:
            if not os.environ.get(key_env):
                raise NescioError(f"--key-env {key_env}: is not set; export the key in it")
            caller = policies.caller(os.environ[key_env])
        elif policy in policies.policies:
            caller = Caller(policy, policies.policies[policy])
        else:
            raise NescioError(f"--policy {policy}: unknown; {file} has {', '.join(policies.policies)}")
    except ApiError as error:
        print(f"{error.status} {error.code}: {error}")
        raise typer.Exit(1) from None
    verdict = tried(policies, caller, body, model, answer)
    print("\n".join(verdict.lines))
    if verdict.status != 200:
        raise typer.Exit(1)


def _body(path: Path) -> dict[str, Any]:
    name = "standard input" if str(path) == "-" else str(path)
    try:
        body = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NescioError(f"{name}: cannot be read ({error.strerror}); give the body of a request") from error
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise NescioError(f"{name}{line}: is not JSON; give the body of a request") from error
    if not isinstance(body, dict):
        raise NescioError(f"{name}: is no JSON object; give the body of a request")
    return body
