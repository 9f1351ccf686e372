"""The images' health check: exit code 0 if the address that it is given answers well, else 1 and why."""

from __future__ import annotations

import sys
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

TIMEOUT_SECONDS = 8


def main() -> None:
    opener = build_opener(ProxyHandler({}))  # the address is the container's own, whatever proxy it has for others
    try:
        opener.open(sys.argv[1], timeout=TIMEOUT_SECONDS).close()
    except HTTPError as error:
        sys.exit(f"{error.code}: {error.read(2000).decode(errors='replace')}")
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
