import shutil

import pytest

from tracehouse import Tracehouse

LOG_CHARACTERS_SHOWN = 20_000
SERVERS = pytest.StashKey[list]()


@pytest.fixture
def new_tracehouse(request, tmp_path):
    """Makes servers that are not started yet. What is left running is killed at the end."""
    servers = request.node.stash.setdefault(SERVERS, [])

    def make(config=None, data_dir=None):
        server = Tracehouse(tmp_path / f"server-{len(servers)}", config, data_dir)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.kill()
        shutil.rmtree(server.data_dir, ignore_errors=True)


@pytest.fixture
def tracehouse(new_tracehouse):
    """A running server with default settings."""
    return new_tracehouse().start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for server in item.stash.get(SERVERS, []):
            ending = server.process and server.process.poll()
            state = "not running" if server.process is None else "running" if ending is None else f"ended with {ending}"
            report.sections.append((f"log of {server.folder.name} ({state})", server.log()[-LOG_CHARACTERS_SHOWN:]))
    return report


def pytest_collection_modifyitems(items):
    """The browser comes last: it takes longest, and what is wrong with the server shows sooner elsewhere."""
    items.sort(key=lambda item: item.module.__name__ == "test_browser")
