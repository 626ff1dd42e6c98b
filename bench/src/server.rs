//! The server under test: started as a child process, watched from outside.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::StatusCode;
use tempfile::TempDir;

use crate::http::Api;

/// A running server with a data directory of its own; both vanish when this is dropped.
pub(crate) struct Server {
    child: Child,
    command: Command,
    directory: TempDir,
    pub(crate) api: Api,
    pub(crate) otlp_endpoint: String,
}

/// Linux tells process times in hundredths of a second (`USER_HZ`) on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
const START_TIMEOUT: Duration = Duration::from_secs(60);

impl Server {
    pub(crate) async fn start(binary: &Path, parent_directory: Option<&Path>) -> anyhow::Result<Self> {
        Self::start_with(binary, parent_directory, &[]).await
    }

    /// With settings in the environment.
    pub(crate) async fn start_with(
        binary: &Path,
        parent_directory: Option<&Path>,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("tracehouse-bench-");
        let directory = match parent_directory {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let directory = directory.context("make a data directory")?;
        let [http, grpc, otlp_http] = free_addresses()?;
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args(["--listen", &http, "--otlp-grpc", &grpc, "--otlp-http", &otlp_http])
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        let child = spawn(&mut command, directory.path())?;
        let api = Api::new(&http);
        let mut server = Self { child, command, directory, api, otlp_endpoint: format!("http://{grpc}") };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Ends the server in an orderly way and starts it again; returns how long that start took until it was ready.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.stop()?;
        let begin = Instant::now();
        self.child = spawn(&mut self.command, self.directory.path())?;
        self.wait_until_ready().await?;
        Ok(begin.elapsed())
    }

    /// Ends the server in an orderly way; its data stay as long as this does.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).context("stop the server")?;
        self.child.wait()?;
        Ok(())
    }

    /// How many of its files in the store are open now.
    pub(crate) fn open_files(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())) else { return 0 };
        let is_stored = |path: PathBuf| path.to_string_lossy().contains(".parquet");
        entries.flatten().filter(|entry| std::fs::read_link(entry.path()).is_ok_and(is_stored)).count()
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < START_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at its start ({status}):\n{}", self.log_tail());
            }
            if matches!(self.api.get("/readyz").await, Ok((StatusCode::OK, _))) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the server was not ready within {START_TIMEOUT:?}:\n{}", self.log_tail())
    }

    /// The last lines the server wrote, for error messages.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// User and system time of all threads, those that ended too, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.proc_file("stat")?;
        // The command name in parentheses may hold spaces; the fields after it do not. proc(5) numbers utime and
        // stime 14 and 15 from one, the state after the name being 3.
        let (_, after_name) = stat.rsplit_once(')').context("find the process name in /proc/PID/stat")?;
        let ticks = |number: usize| after_name.split_whitespace().nth(number - 3).and_then(|field| field.parse().ok());
        let (user, system): (f64, f64) =
            ticks(14).zip(ticks(15)).context("find user and system time in /proc/PID/stat")?;
        Ok((user + system) / TICKS_PER_SECOND)
    }

    /// The largest resident set so far, in MiB.
    pub(crate) fn peak_memory_mib(&self) -> anyhow::Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// The resident set now, in MiB.
    pub(crate) fn memory_mib(&self) -> anyhow::Result<f64> {
        self.status_mib("VmRSS:")
    }

    fn status_mib(&self, key: &str) -> anyhow::Result<f64> {
        let status = self.proc_file("status")?;
        let kib: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|kib| kib.trim().parse().ok())
            .with_context(|| format!("find {key} in /proc/PID/status"))?;
        Ok(kib / 1024.0)
    }

    fn proc_file(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        std::fs::read_to_string(&path)
            .with_context(|| format!("read {path} (did the server end?)\n{}", self.log_tail()))
    }

    pub(crate) fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where the files of spans lie.
    pub(crate) fn store_directory(&self) -> PathBuf {
        self.directory.path().join("data").join("store")
    }

    /// Files and bytes of stored Parquet.
    pub(crate) fn stored(&self) -> anyhow::Result<Disk> {
        let mut disk = Disk::default();
        walk(&self.store_directory(), &mut |path, bytes| {
            if path.extension().is_some_and(|extension| extension == "parquet") {
                disk.files += 1;
                disk.bytes += bytes;
            }
        })?;
        Ok(disk)
    }

    /// Everything below the data directory.
    pub(crate) fn whole_disk(&self) -> anyhow::Result<Disk> {
        let mut disk = Disk::default();
        walk(&self.directory.path().join("data"), &mut |_, bytes| {
            disk.files += 1;
            disk.bytes += bytes;
        })?;
        Ok(disk)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data go away with it, so there is nothing to end gracefully; and nobody hears of a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the server, its output to a file in the folder.
fn spawn(command: &mut Command, folder: &Path) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("server.log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("start {}", command.get_program().display()))
}

#[derive(Default, Clone, Copy)]
pub(crate) struct Disk {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

fn walk(directory: &Path, visit: &mut impl FnMut(&Path, u64)) -> anyhow::Result<()> {
    let mut open: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
            let entry = entry?;
            // Files may go while we look, as compaction replaces them.
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                Ok(metadata) => visit(&entry.path(), metadata.len()),
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Three loopback addresses nobody listens at just now.
fn free_addresses() -> anyhow::Result<[String; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut addresses = [const { String::new() }; 3];
    for (address, listener) in addresses.iter_mut().zip(listeners) {
        *address = listener.context("find a free port")?.local_addr()?.to_string();
    }
    Ok(addresses)
}
