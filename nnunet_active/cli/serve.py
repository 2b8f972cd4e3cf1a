"""``nnunet_active serve``: the cases of a campaign for the MONAI Label module of 3D Slicer."""

from __future__ import annotations

import argparse
import re
import secrets
import socket

from nnunet_active.cli.arguments import add_dataset, add_fold, plain, whole

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
LAST_SECONDS = 10
"""Time for labels still arriving when the server ends; a vanished sender would otherwise keep it running for ever."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, and who may connect."""
    add_dataset(parser)
    add_fold(parser)
    parser.add_argument(
        "--host",
        default=LOCAL[0],
        help="address to listen at (default: 127.0.0.1, this machine alone); others need the token that is printed",
    )
    parser.add_argument(
        "--port", type=whole("--port", 0, 65535), default=8000, help="port (default: 8000; 0: a free one)"
    )
    parser.add_argument(
        "--token",
        type=plain("--token"),
        help="the token that the address ends with (default: a new one, where one is needed)",
    )
    parser.add_argument(
        "--free", action="store_true", help="take back the cases that annotators have and sent no label of"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until somebody presses Ctrl+C."""
    from nnunet_active.util.errors import ActiveError, MissingInput

    try:
        # FastAPI looks for it only when the first label is sent
        import python_multipart  # noqa: F401
        import uvicorn

        from nnunet_active.server.app import make_app
    except ImportError as error:
        raise MissingInput(
            f'The server needs {error.name}, which is not installed; pip install "nnunet_active[server]" brings it.'
        ) from None
    from nnunet_active.commands import Commands
    from nnunet_active.nnunet.nnunet_paths import dataset_name
    from nnunet_active.server.listening import open_socket
    from nnunet_active.server.served_campaign import ServedCampaign
    from nnunet_active.server.service import LIMITS, AnnotationService, check_served
    from nnunet_active.server.submission import FOLDER
    from nnunet_active.util.lock import hold

    dataset = dataset_name(args.dataset)
    service = AnnotationService(ServedCampaign(dataset, args.fold))
    commands = Commands(dataset, "", fold=args.fold)
    waiting = check_served(service, commands.annotate())
    if args.token is not None and len(args.token) < 8:
        raise ActiveError("--token needs at least 8 characters.")
    if args.token is not None and not re.fullmatch(r"[\w.~-]+", args.token, re.ASCII):
        raise ActiveError("--token becomes a part of the address; use letters, digits, '-' and '_' alone.")
    local = args.host in LOCAL
    token = args.token or ("" if local else secrets.token_urlsafe(16))
    # two servers of one campaign would give one case to two annotators
    with hold(service.served.folder / FOLDER), open_socket(args.host, args.port) as listening:
        service = AnnotationService(service.served)  # a server that has just ended may have handed out more cases
        if args.free and (freed := service.claims.free()):
            print(f"Taken back: {', '.join(freed)}")
        address = f"http://{_reached_as(args.host)}:{listening.getsockname()[1]}" + (f"/{token}" if token else "")
        print(f"{waiting} case(s) wait for a label.")
        print(LIMITS)
        print("Give each annotator a Client-ID in the module's settings: nobody then gets the case of another one.")
        if not local:
            print("The connection is not encrypted; for other than a trusted network take an SSH tunnel to 127.0.0.1.")
        print(f"Ctrl+C ends it. Then: {commands.next()}")
        print(f"Address for the MONAI Label module of 3D Slicer: {address}", flush=True)
        app = make_app(service, token, [_in_address(one) for one in LOCAL] if local else ())
        how = {"access_log": False, "log_level": "warning", "server_header": False}
        config = uvicorn.Config(app, timeout_graceful_shutdown=LAST_SECONDS, **how)
        uvicorn.Server(config).run(sockets=[listening])
    return 0


def _reached_as(host: str) -> str:
    """The host in the address that annotators type: nobody can connect to the address that means all of this machine's."""
    return socket.gethostname() if host in EVERYWHERE else _in_address(host)


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
