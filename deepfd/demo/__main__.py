"""`python -m deepfd.demo [--model M] [--port P]` serves the page to this machine until Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path

from deepfd import shipped
from pipeline.errors import UserError, one_line

PAGE = Path(__file__).with_name("page.py")
PORT = 8501
SETTINGS = {
    "server.address": "127.0.0.1",  # pictures of people: nobody else's business
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "50",  # MB
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
}


@one_line
def main(arguments: list[str] | None = None) -> None:
    """Serve the page."""
    parser = argparse.ArgumentParser(description="a page to try the detector in a browser")
    parser.add_argument("--model", help="a folder or a shipped name, as for deepfd detect")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        from streamlit.web import cli
    except ImportError:
        raise UserError('the page needs: pip install "deepfd-benchmark[demo]"') from None
    shipped.find(options.model)  # a model that is not there is said here, not in the page
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    own = ["--", options.model] if options.model else []
    print(f"deepfd demo: http://{SETTINGS['server.address']}:{options.port} (Ctrl-C ends it)")
    cli.main(["run", str(PAGE), f"--server.port={options.port}", *settings, *own])


if __name__ == "__main__":
    main()
