//! `cargo xtask test`: the README's test command, and what CI calls.
//!
//! It installs what is missing (Debian packages where it may, the Go peers, axe-core, the Python client), builds, runs everything against
//! the real components, and prints the time of each stage and the sum. A test whose component is missing fails.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{peers, stage};

#[derive(Args)]
pub(crate) struct Options {
    /// Only what needs no server, no browser and no Go.
    #[arg(long)]
    quick: bool,
    /// Only install and build what the tests need, and run none.
    #[arg(long, conflicts_with = "quick")]
    install_only: bool,
}

/// Unit, differential and integration tests (design section 5).
const TEST_CAP: Duration = Duration::from_secs(55 * 60);
/// The release build, and the tests of the released programs.
const RELEASE_CAP: Duration = Duration::from_secs(25 * 60);

/// Random histories of the store's simulation (docs/store-invariants.md); by itself it runs a tenth.
const HISTORIES: &str = "100000";

/// Debian packages that tests need, and a program that each brings.
const PACKAGES: &[(&str, &str)] = &[
    ("chromium", "chromium"),
    ("chromium-driver", "chromedriver"),
    ("mariadb-server", "mariadb-install-db"),
    ("postgresql", "pg_ctlcluster"),
];

/// Of the port-forward, the API server and the sign-in plugin in docs/guide.md.
const GUIDE_PORTS: [u16; 3] = [5554, 6443, 8000];

/// The accessibility checker that the browser tests load into our pages.
const AXE_CORE: &str = "axe-core@4.10.3";

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.install_only {
        install_packages()?;
        install_axe()?;
        install_python_client()?;
        peers::build_all()?;
        return Ok(());
    }
    if options.quick {
        let mut command = stage::cargo();
        command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins"]);
        println!(
            "quick: the unit tests of every package. Left out: every tests/ folder (sockets, kube-apiserver, kubectl, \
             the oracle), examples in the documentation, and the released programs with the browser"
        );
        return stage::report(&[stage::run_tests("quick tests", TEST_CAP, &mut command)?]);
    }
    guide_ports_are_free()?;
    install_packages()?;
    let axe = install_axe()?;
    let python = install_python_client()?;
    let peers = peers::build_all()?;
    let with_peers = |command: &mut Command| {
        command.env("PORTCULLIS_PEERS", &peers).env("PORTCULLIS_AXE", &axe).env("PORTCULLIS_ARTEFACTS", artefacts());
    };

    let mut outcomes = Vec::new();
    let mut tests = stage::cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    tests.env("PORTCULLIS_HISTORIES", HISTORIES);
    with_peers(&mut tests);
    outcomes.push(stage::run_tests("tests", TEST_CAP, &mut tests)?);

    // Each binary alone, so that the small one gets no feature that only the big one needs.
    for package in ["portcullis", "kubectl-oidc_login"] {
        outcomes.push(stage::run(
            &format!("release {package}"),
            RELEASE_CAP,
            stage::cargo().args(["build", "--release", "--locked", "-p", package]),
        )?);
    }
    if outcomes.iter().skip(1).all(|o| o.ok) {
        let mut e2e = stage::cargo();
        e2e.args([
            "test",
            "--locked",
            "--no-fail-fast",
            "-p",
            "portcullis-tests",
            "--features",
            "e2e",
            "--test",
            "e2e",
        ]);
        e2e.env("PORTCULLIS_BIN", stage::target_dir().join("release")).env("PORTCULLIS_PYTHON", &python);
        with_peers(&mut e2e);
        outcomes.push(stage::run_tests("end to end", RELEASE_CAP, &mut e2e)?);
    }
    stage::report(&outcomes)
}

/// The guide is walked as it stands, at the end of everything. So it is said here that one of its ports is taken.
fn guide_ports_are_free() -> Result<()> {
    for port in GUIDE_PORTS {
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
            // A machine without IPv6 has nobody there.
            let taken = TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
            ensure!(
                !taken,
                "port {port} is taken, and docs/guide.md, which is tested as it stands, needs it: \
                 `ss -ltnp 'sport = :{port}'` names who listens there; end that, and run this again"
            );
        }
    }
    Ok(())
}

/// Where screenshots and the like are kept.
fn artefacts() -> PathBuf {
    stage::target_dir().join("artefacts")
}

/// Installs the Debian packages that are missing.
pub(crate) fn install_packages() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, program)| !on_path(program)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    if !rustix::process::geteuid().is_root() {
        bail!("not root: install these Debian packages first: {}", missing.join(" "));
    }
    for arguments in
        [vec!["update", "-q"], [vec!["install", "-q", "-y", "--no-install-recommends"], missing.clone()].concat()]
    {
        let status = Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .context("cannot start apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed", arguments.join(" "));
        }
    }
    Ok(())
}

/// Brings axe-core from npm into the cache folder and returns its script.
fn install_axe() -> Result<PathBuf> {
    let folder = stage::cache_dir()?.join("npm");
    let script = folder.join("node_modules/axe-core/axe.min.js");
    if script.is_file() {
        return Ok(script);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if !on_path("npm") {
        let status = Command::new("apt-get")
            .args(["install", "-q", "-y", "--no-install-recommends", "npm"])
            .status()
            .context("cannot start apt-get")?;
        if !status.success() {
            bail!("npm is missing and could not be installed");
        }
    }
    let status = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(&folder)
        .arg(AXE_CORE)
        .status()
        .context("cannot start npm")?;
    if !status.success() || !script.is_file() {
        bail!("npm install {AXE_CORE} failed");
    }
    Ok(script)
}

/// Makes a virtual environment in the cache folder with the official Kubernetes client, pinned by
/// `tests/python/requirements.txt`, and returns its Python.
fn install_python_client() -> Result<PathBuf> {
    let folder = stage::cache_dir()?.join("python-client");
    let (python, stamp) = (folder.join("bin/python"), folder.join("installed.txt"));
    let list = stage::root().join("tests/python/requirements.txt");
    let wanted = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    if python.is_file() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("installing the Python client into {}", folder.display());
    run_quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("a Python virtual environment could not be made: install Python 3 with its venv module")?;
    let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"];
    run_quietly(Command::new(&python).args(pip).arg(&list))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

fn run_quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    anyhow::ensure!(status.success(), "{} failed: {status}", program.display());
    Ok(())
}

fn on_path(program: &str) -> bool {
    stage::env("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
