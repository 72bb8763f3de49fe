//! `kezhan socks`: a SOCKS server in the foreground.

use crate::credentials::{Credentials, CredentialsError};
use crate::listener::{ListenerConfig, ListenerHandle, listen};
use crate::outbound::{HostOutbound, Outbound};
use crate::proxy::Proxy;
use crate::server::Access;
use clap::Args;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use thiserror::Error;

/// Status of a wrong command line, and of a host that lacks something.
const USAGE: u8 = 2;
const UNAVAILABLE: u8 = 69;

/// Options of `kezhan socks`.
#[derive(Args, Clone, Debug)]
pub struct SocksArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:1080")]
    pub listen: SocketAddr,
    /// Ask clients for this user name; needs --password-file
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub user: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Serve everybody who reaches an address that is not a loopback one, without a password
    #[arg(long, conflicts_with = "user")]
    pub open: bool,
    /// Send everything through another SOCKS server, and nothing past it
    #[arg(long, value_name = "URL")]
    pub upstream: Option<Proxy>,
    /// Reach the machines on this network, by their names, and nothing else (--net user,network=NAME)
    #[arg(long, value_name = "NAME", conflicts_with = "upstream")]
    pub network: Option<String>,
    /// Seconds that a connection to a target may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum SocksCommandError {
    /// It would serve strangers.
    #[error(
        "--listen {0}: others than this host reach it: give --user and --password-file, or --open to serve everybody"
    )]
    Open(SocketAddr),
    /// No password to be read.
    #[error("--password-file {path}: {error}: give a file with the password in its first line")]
    PasswordFile {
        /// The file.
        path: String,
        /// What the host says.
        error: io::Error,
    },
    /// SOCKS cannot carry them.
    #[error("--user and --password-file: {0}")]
    Credentials(#[from] CredentialsError),
    /// The address is taken, or not this host's.
    #[error("--listen {address}: {error}: give another address or port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the host says.
        error: io::Error,
    },
}

impl SocksCommandError {
    fn status(&self) -> u8 {
        match self {
            SocksCommandError::Open(_) | SocksCommandError::Credentials(_) => USAGE,
            SocksCommandError::PasswordFile { .. } | SocksCommandError::Listen { .. } => {
                UNAVAILABLE
            }
        }
    }
}

/// Serves until the process is ended; `guests` is what [`SocksArgs::network`] leads to.
pub fn run(args: &SocksArgs, guests: Option<Box<dyn Outbound>>) -> ExitCode {
    match start(args, guests) {
        Ok(handle) => {
            eprintln!("kezhan: SOCKS server on {}", handle.address());
            handle.join();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kezhan: {error}");
            ExitCode::from(error.status())
        }
    }
}

/// Starts the server that the options describe; with `guests`, connections go there.
///
/// # Errors
/// See [`SocksCommandError`].
pub fn start(
    args: &SocksArgs,
    guests: Option<Box<dyn Outbound>>,
) -> Result<ListenerHandle, SocksCommandError> {
    let access = access(args)?;
    if matches!(access, Access::Open) && !args.open && !args.listen.ip().is_loopback() {
        return Err(SocksCommandError::Open(args.listen));
    }
    let timeout = Duration::from_secs(args.timeout);
    let outbound: Box<dyn Outbound> = match (guests, &args.upstream) {
        (Some(guests), _) => guests,
        (None, Some(proxy)) => Box::new(proxy.clone().with_timeout(timeout)),
        (None, None) => Box::new(HostOutbound::new(timeout)),
    };
    TcpListener::bind(args.listen)
        .and_then(|socket| listen(socket, ListenerConfig::new(access), outbound))
        .map_err(|error| SocksCommandError::Listen { address: args.listen, error })
}

fn access(args: &SocksArgs) -> Result<Access, SocksCommandError> {
    match (&args.user, &args.password_file) {
        (Some(user), Some(path)) => {
            let password = first_line(path).map_err(|error| SocksCommandError::PasswordFile {
                path: path.display().to_string(),
                error,
            })?;
            Ok(Access::Password(Credentials::new(user.as_str(), password)?))
        }
        _ => Ok(Access::Open),
    }
}

fn first_line(path: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
