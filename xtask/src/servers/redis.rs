//! A private Redis.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Durability, Installed, given_to};
use crate::{
    Context, Result, error, ports,
    process::{self, Process, Recipe},
    workspace,
};

/// A private Redis, with the users of `deploy/redis/users.conf`.
#[derive(Debug)]
pub struct Redis {
    /// The port on 127.0.0.1.
    pub port: u16,
    log: PathBuf,
    recipe: Recipe,
}

impl Redis {
    /// Writes the configuration, to be started.
    pub fn create(
        installed: &Installed,
        data: &Path,
        logs: &Path,
        stack: &Path,
        durability: Durability,
    ) -> Result<Self> {
        let port = ports::free()?;
        let folder = data.join("redis");
        fs::create_dir_all(&folder).context(folder.display())?;
        let users = workspace::root().join("deploy/redis/users.conf");
        let users = fs::read_to_string(&users).context(users.display())?;
        let appendonly = match durability {
            // Each write reaches the kernel before its reply is sent, and so survives the process.
            Durability::Process => "yes",
            Durability::None => "no",
        };
        // A file, because an ACL user cannot be given on the command line.
        let configuration = folder.join("redis.conf");
        fs::write(
            &configuration,
            format!(
                "bind 127.0.0.1\n\
                 port {port}\n\
                 dir {}\n\
                 save \"\"\n\
                 appendonly {appendonly}\n\
                 appendfsync everysec\n\
                 maxmemory-policy noeviction\n\
                 {users}",
                folder.display()
            ),
        )
        .context(configuration.display())?;

        // Redis does not need to run as root.
        let user = given_to("redis", &folder)?;
        let log = logs.join("redis.log");
        Ok(Self {
            port,
            log: log.clone(),
            recipe: Recipe {
                name: "redis".to_owned(),
                program: installed.redis.clone(),
                arguments: vec![configuration.display().to_string()],
                environment: installed.environment.clone(),
                folder,
                user,
                log,
                stack: stack.to_path_buf(),
                stop: libc::SIGTERM,
            },
        })
    }

    /// Returns the URL for a user of `deploy/redis/users.conf`.
    pub fn url(&self, user: &str) -> String {
        format!("redis://{user}:development-{user}@127.0.0.1:{}", self.port)
    }

    /// Starts it, also after it was killed.
    pub fn start(&self) -> Result<Process> {
        self.recipe.start()
    }

    /// Waits until it replies to commands: it accepts connections before it has read its file.
    pub fn wait(&self, process: &mut Process) -> Result {
        process::wait_for("Redis", Duration::from_secs(60), || {
            if let Some(status) = process.ended()? {
                return Err(error(format!(
                    "Redis ended ({status})\n{}",
                    process::tail(&self.log, 15)
                )));
            }
            Ok(self.answers_ping().unwrap_or(false).then_some(()))
        })
    }

    fn answers_ping(&self) -> std::io::Result<bool> {
        let patience = Duration::from_millis(500);
        let mut stream =
            TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, self.port).into(), patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG\r\n")
    }
}
