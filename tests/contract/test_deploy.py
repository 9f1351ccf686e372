"""deploy/azure takes its steps in order; deploy/roles.py keeps the two databases apart.

The steps are read from a dry run, and tried for real against stubs of az, docker and curl and, where terraform-check
is, against the real terraform on the provider's real schema.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from devstack import postgres
from devstack.postgres import Cluster
from tests.contract.test_terraform import CHECK, needs_check
from webapp.config import ROOT

SCRIPT = ROOT / "deploy/azure"


def deploy(*arguments: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "ARM_"))}
    return subprocess.run(
        [str(cwd / "deploy/azure"), *arguments], cwd=cwd, env={**env, **environ},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def commands(output: str) -> list[str]:
    """What was run, in short: the words of each command that say what it does."""
    return [short(shlex.split(line[2:])) for line in output.splitlines() if line.startswith("+ ")]


def short(words: list[str]) -> str:
    if words[0] == "terraform":
        targets = [word.removeprefix("-target=") for word in words if word.startswith("-target=")]
        return " ".join([*words[2:3], *(words[4:5] if words[2] == "output" else targets[:1])])
    if words[:4] == ["az", "containerapp", "job", "start"]:
        return f"start {words[words.index('--name') + 1]}"
    return " ".join(words[: 4 if words[0] == "az" else 2])


def changing(output: str) -> list[str]:
    """The commands that change something."""
    asking = ("output", "az containerapp show", "az containerapp job show")
    return [line for line in commands(output) if not line.startswith(asking)]


FIRST = [
    "init",
    "apply azurerm_container_registry.this",
    *("az acr login --name", "docker build", "docker push", "docker build", "docker push"),
    *("apply azurerm_container_app_job.migrate", "start MIGRATE_JOB"),
    "apply",
    *("start N8N_IMPORT_JOB", "az containerapp revision restart"),
    "curl --fail",
]


def test_the_first_deployment_goes_registry_images_migration_apps_import() -> None:
    done = deploy("first", "dev", "--tag", "abc123", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert changing(done.stdout) == FIRST


def test_an_upgrade_is_the_first_deployment_without_the_registry() -> None:
    done = deploy("upgrade", "prod", "--tag", "abc123", "--dry-run")
    assert changing(done.stdout) == [step for step in FIRST if "registry" not in step]
    assert done.stdout.count("image_tag=abc123") == 2
    assert "prod.tfvars" in done.stdout


def test_a_rollback_builds_nothing_and_downgrades_with_the_running_image() -> None:
    plain = deploy("rollback", "prod", "--tag", "old", "--dry-run").stdout
    assert changing(plain) == ["init", *FIRST[-4:]]
    deep = deploy("rollback", "prod", "--tag", "old", "--downgrade-to", "0002_lives", "--dry-run").stdout
    assert changing(deep) == ["init", *FIRST[-6:]]
    downgrade = next(line for line in deep.splitlines() if "database_revision=0002_lives" in line)
    assert "image_tag=IMAGE " in downgrade and "image_tag=old" not in downgrade


def test_the_acr_builder_needs_no_docker() -> None:
    done = deploy("upgrade", "dev", "--tag", "abc123", "--builder", "acr", "--dry-run")
    assert "docker" not in done.stdout and done.stdout.count("az acr build") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["first", "staging", "--dry-run"], "there is no terraform/staging.tfvars"),
        (["rollback", "dev", "--dry-run"], "rollback needs --tag"),
        (["state", "dev", "--dry-run"], "state needs --account"),
        (["destroy", "dev"], "what is destroy?"),
        (["upgrade", "dev", "--force"], "what is --force?"),
        (["first", "dev", "--tag", "abc123"], "set TF_VAR_openai_api_key"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_happens(arguments: list[str], says: str) -> None:
    done = deploy(*arguments)
    assert done.returncode == 1 and says in done.stderr and "+ " not in done.stdout


def test_the_state_is_kept_without_keys_and_old_versions_stay() -> None:
    done = deploy("state", "dev", "--account", "stacme", "--dry-run")
    for words in ("--allow-shared-key-access false", "--allow-blob-public-access false", "--enable-versioning true"):
        assert words in done.stdout


STUB = """#!{python}
import os, sys
from pathlib import Path

def after(option):
    return words[words.index(option) + 1]

name, words, home = Path(sys.argv[0]).name, sys.argv[1:], Path(os.environ["STUB_HOME"])
with open(home / "calls", "a") as log:
    log.write(" ".join([name, *words]) + "\\n")
line, applied = " ".join(words), home / "applied"
if name == "docker" and words[0] == "push":
    (home / words[1].rsplit("/", 1)[1]).touch()
elif name == "terraform" and "output" in words:
    print(words[-1])
elif name == "terraform":
    for word in words:
        if word.startswith("image_tag="):
            applied.write_text(word.removeprefix("image_tag="))
elif "acr repository" in line:
    wanted = after("--query").split("'")[1]
    pushed = home.glob(wanted + ":*") if "list" in words else home.glob(after("--repository") + ":" + wanted)
    if "STUB_REGISTRY_IS_DOWN" in os.environ:
        sys.exit("it is down")
    print("true" if any(pushed) else "false")
elif "job start" in line:
    print("execution-1")
elif "containers[0].image" in line:
    image = "sluice-n8n" if "import" in after("--name") else "sluice"
    tag = applied.read_text() if applied.exists() else os.environ.get("STUB_IMAGE_TAG", "one")
    print("registry.invalid/" + image + ":" + tag)
elif "properties.status" in line:
    polled = home / "polled"
    print(os.environ["STUB_STATUS"] if polled.exists() else "Running")
    polled.touch()
elif "latestReadyRevisionName" in line:
    looked = home / ("looked-" + after("--name"))
    print("true" if looked.exists() else "false")
    looked.touch()
elif "latestRevisionName" in line:
    print("revision-1")
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A copy of what the script needs, with stubs of all that is not here."""
    for name in ("deploy", "terraform"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns(".terraform*", "*.local.tfvars", "tests")
        )
    for folder, name in (("bin", "az"), ("bin", "docker"), ("bin", "curl"), ("bin-terraform", "terraform")):
        stub = tmp_path / folder / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(STUB.format(python=sys.executable))
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "terraform/terraform_check_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    (tmp_path / "terraform/dev.backend.hcl").write_text(f'path = "{tmp_path}/state"\n')
    return tmp_path


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """The environment in which terraform finds terraform-check's providers."""
    loader = SourceFileLoader("terraform_check", str(CHECK))
    spec = spec_from_loader("terraform_check", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    (tmp_path / "mirror-at").mkdir()
    config = module.build_mirror(tmp_path / "mirror-at", module.python_for_providers())
    return {"TF_CLI_CONFIG_FILE": str(config), "CHECKPOINT_DISABLE": "1"}


@pytest.fixture
def stubs(workplace: Path) -> dict[str, str]:
    """The environment in which terraform is a stub, too."""
    return {
        "PATH": f"{workplace}/bin:{workplace}/bin-terraform:{os.environ['PATH']}", "ARM_SUBSCRIPTION_ID": "0",
        "STUB_HOME": str(workplace), "STUB_STATUS": "Succeeded", "DEPLOY_POLL_SECONDS": "0",
    }  # fmt: skip


def calls(workplace: Path) -> str:
    return (workplace / "calls").read_text()


def test_a_rollback_starts_from_what_an_upgrade_that_broke_off_had_begun(
    workplace: Path, stubs: dict[str, str]
) -> None:
    for image in ("sluice:one", "sluice-n8n:one"):
        (workplace / image).touch()
    (workplace / "applied").write_text("two")  # as far as the migration job; no app runs it
    done = deploy("rollback", "dev", "--tag", "one", "--yes", cwd=workplace, **stubs)
    assert done.returncode == 1 and "the migrations of one and two differ" in done.stderr
    done = deploy("rollback", "dev", "--tag", "one", "--downgrade-to", "0003", "--yes", cwd=workplace, **stubs)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    [downgrade] = [line for line in calls(workplace).splitlines() if "database_revision=0003" in line]
    assert "image_tag=two" in downgrade


def test_the_check_waits_until_every_app_has_its_new_revision(workplace: Path, stubs: dict[str, str]) -> None:
    done = deploy("upgrade", "dev", "--tag", "two", "--yes", cwd=workplace, **stubs)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    before_curl = calls(workplace).split("\ncurl ")[0]
    for app in ("web_app", "internal_app", "heartbeat_app"):  # the first look at each says: not yet
        looks = [line for line in before_curl.splitlines() if "latestReadyRevisionName" in line and app in line]
        assert len(looks) == 2, app


def test_a_registry_that_does_not_answer_is_not_an_image_that_is_missing(
    workplace: Path, stubs: dict[str, str]
) -> None:
    done = deploy("upgrade", "dev", "--tag", "two", "--yes", cwd=workplace, STUB_REGISTRY_IS_DOWN="1", **stubs)
    assert done.returncode == 1 and "the registry registry did not answer" in done.stderr
    assert "docker build" not in calls(workplace)


def test_nothing_is_built_under_the_name_of_another_commit(workplace: Path, stubs: dict[str, str]) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", *who, *words], cwd=workplace, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def upgrade(tag: str) -> str:
        done = deploy("upgrade", "dev", "--tag", tag, "--yes", cwd=workplace, **stubs)
        return done.stderr if done.returncode else "done"

    (workplace / ".gitignore").write_text("*\n!deploy/\n!deploy/azure\n")
    git("init", "--quiet")
    git("add", "--all")
    for message in ("older", "newer"):
        git("commit", "--quiet", "--allow-empty", "--message", message)
    older, newer = git("rev-parse", "HEAD~1"), git("rev-parse", "HEAD")
    assert "is another commit" in upgrade(older)
    assert upgrade(newer) == "done"
    (workplace / "deploy/azure").write_text((workplace / "deploy/azure").read_text() + "# changed\n")
    assert upgrade(newer) == "done"  # it is in the registry: nothing is built
    (workplace / f"sluice-n8n:{newer}").unlink()
    assert "uncommitted changes" in upgrade(newer)
    assert upgrade("trial") == "done"


@needs_check
def test_the_script_runs_from_nothing_to_an_upgrade_and_back(workplace: Path, stand_in: dict[str, str]) -> None:
    environ = {
        **stand_in, "PATH": f"{workplace}/bin:{os.environ['PATH']}",
        "STUB_HOME": str(workplace), "STUB_STATUS": "Succeeded",
        "ARM_SUBSCRIPTION_ID": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "DEPLOY_POLL_SECONDS": "0",
    }  # fmt: skip
    steps = (
        (["first", "dev", "--tag", "one", "--yes"], {"TF_VAR_openai_api_key": "sk-from-the-shell"}),
        (["upgrade", "dev", "--tag", "two", "--yes"], {}),
        (["rollback", "dev", "--tag", "one", "--downgrade-to", "0002_lives", "--yes"], {"STUB_IMAGE_TAG": "two"}),
    )
    done = deploy(*steps[0][0], cwd=workplace, **environ, **steps[0][1])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    state = (workplace / "state").read_text()
    assert "sk-from-the-shell" not in state and "postgresql+psycopg" not in state
    done = deploy(*steps[1][0], cwd=workplace, **environ, STUB_IMAGE_TAG="two")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "sluice:two" in (workplace / "state").read_text()
    # The stubbed job says that it ran the image "two": right for the downgrade, wrong for n8n's import of "one".
    done = deploy(*steps[2][0], cwd=workplace, **environ, **steps[2][1])
    assert done.returncode == 1 and "instead of sluice-n8n:one" in done.stderr
    done = deploy(
        "upgrade",
        "dev",
        "--tag",
        "two",
        "--yes",
        cwd=workplace,
        **{**environ, "STUB_STATUS": "Failed", "STUB_IMAGE_TAG": "two"},
    )
    assert done.returncode == 1 and "execution-1: Failed" in done.stderr and "is in the registry" in done.stdout


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A server as Azure makes it: the databases belong to a group, and the administrator in it is no superuser."""
    with postgres.throwaway() as cluster:
        with cluster.connect("postgres", postgres.SUPERUSER) as connection:
            connection.execute("CREATE ROLE azure_pg_admin NOLOGIN")
            connection.execute("CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD 'boss' IN ROLE azure_pg_admin")
            for database in ("appdb", "flowdb"):
                connection.execute(f"CREATE DATABASE {database} OWNER azure_pg_admin")
        yield cluster


def make_roles(server: Cluster, app_password: str = "app/pass@word") -> None:
    password = quote(app_password, safe="")
    subprocess.run(
        [sys.executable, str(ROOT / "deploy/roles.py")],
        env={
            "PGHOST": str(server.socket_dir), "PGPORT": str(postgres.PORT), "PGUSER": "boss", "PGPASSWORD": "boss",
            "DATABASE_URL": f"postgresql+psycopg://app:{password}@host:5432/appdb?sslmode=verify-full",
            "DB_POSTGRESDB_USER": "flow", "DB_POSTGRESDB_PASSWORD": "flow-password", "DB_POSTGRESDB_DATABASE": "flowdb",
        },
        check=True,
    )  # fmt: skip


def connect(server: Cluster, role: str, password: str, database: str) -> psycopg.Connection:
    host, port = str(server.socket_dir), postgres.PORT
    return psycopg.connect(host=host, port=port, user=role, password=password, dbname=database, autocommit=True)


def test_each_role_owns_its_tables_and_cannot_enter_the_others_database(server: Cluster) -> None:
    make_roles(server)
    make_roles(server)  # again, as before every migration
    with connect(server, "app", "app/pass@word", "appdb") as connection:
        connection.execute("CREATE TABLE jobs (id int)")
        connection.execute("DROP TABLE jobs")
    with connect(server, "flow", "flow-password", "flowdb") as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('calm')")
    for role, password, database in (("app", "app/pass@word", "flowdb"), ("flow", "flow-password", "appdb")):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            connect(server, role, password, database)


def test_a_new_password_reaches_the_server_and_the_old_one_ends(server: Cluster) -> None:
    make_roles(server)
    make_roles(server, app_password="a new one")
    connect(server, "app", "a new one", "appdb").close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(server, "app", "app/pass@word", "appdb")
